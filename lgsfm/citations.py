"""BibTeX of the papers behind the components, by key."""

from __future__ import annotations

__all__ = ["BIBTEX", "COMPONENTS"]

# kind -> component -> keys. What a component of another package is made of, its authors know.
COMPONENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "extractor": {
        "aliked": ("zhao2023aliked",),
        "disk": ("tyszkiewicz2020disk",),
        "imported": (),  # whoever made them knows
        "sift": ("lowe2004sift", "arandjelovic2012rootsift"),
        "superpoint": ("detone2018superpoint",),
        "xfeat": ("potje2024xfeat",),
    },
    "matcher": {
        "imported": (),
        "lightglue": ("lindenberger2023lightglue",),
        "nearest": (),  # of nobody in particular
    },
    "retriever": {
        "asmk": ("tolias2013asmk",),
        "dinov2": ("oquab2024dinov2", "keetha2023anyloc"),
        "vlad": ("jegou2010vlad", "arandjelovic2013vlad"),
    },
    "verification": {"colmap": ("schoenberger2016sfm", "chum2003loransac")},
    "estimator": {
        "colmap": ("chum2003loransac",),
        "magsac": ("barath2020magsac",),
        "poselib": ("larsson2020poselib",),
        "ransac": ("fischler1981ransac",),
    },
    "mapper": {
        "incremental": ("schoenberger2016sfm",),
        "hierarchical": ("schoenberger2016sfm",),
        "global": ("pan2024glomap", "schoenberger2016sfm"),
    },
    "look-alikes": {"consensus": ("zach2010loops", "yan2017geodesic")},
}

BIBTEX = {
    "arandjelovic2012rootsift": r"""@inproceedings{arandjelovic2012rootsift,
  author    = {Arandjelovi{\'c}, Relja and Zisserman, Andrew},
  title     = {Three things everyone should know to improve object retrieval},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2012}
}""",
    "arandjelovic2013vlad": r"""@inproceedings{arandjelovic2013vlad,
  author    = {Arandjelovi{\'c}, Relja and Zisserman, Andrew},
  title     = {All about {VLAD}},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2013}
}""",
    "barath2020magsac": r"""@inproceedings{barath2020magsac,
  author    = {Barath, Daniel and Noskova, Jana and Ivashechkin, Maksym and Matas, Jiri},
  title     = {{MAGSAC++}, a Fast, Reliable and Accurate Robust Estimator},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2020}
}""",
    "chum2003loransac": r"""@inproceedings{chum2003loransac,
  author    = {Chum, Ond{\v{r}}ej and Matas, Ji{\v{r}}{\'i} and Kittler, Josef},
  title     = {Locally Optimized {RANSAC}},
  booktitle = {Pattern Recognition (DAGM)},
  year      = {2003}
}""",
    "detone2018superpoint": r"""@inproceedings{detone2018superpoint,
  author    = {DeTone, Daniel and Malisiewicz, Tomasz and Rabinovich, Andrew},
  title     = {{SuperPoint}: Self-Supervised Interest Point Detection and Description},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition Workshops (CVPRW)},
  year      = {2018},
  note      = {arXiv:1712.07629}
}""",
    "fischler1981ransac": r"""@article{fischler1981ransac,
  author  = {Fischler, Martin A. and Bolles, Robert C.},
  title   = {Random Sample Consensus: A Paradigm for Model Fitting with Applications to Image Analysis and Automated
             Cartography},
  journal = {Communications of the ACM},
  volume  = {24},
  number  = {6},
  pages   = {381--395},
  year    = {1981}
}""",
    "jegou2010vlad": r"""@inproceedings{jegou2010vlad,
  author    = {J{\'e}gou, Herv{\'e} and Douze, Matthijs and Schmid, Cordelia and P{\'e}rez, Patrick},
  title     = {Aggregating local descriptors into a compact image representation},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2010}
}""",
    "keetha2023anyloc": r"""@article{keetha2023anyloc,
  author  = {Keetha, Nikhil and Mishra, Avneesh and Karhade, Jay and Jatavallabhula, Krishna Murthy and Scherer,
             Sebastian and Krishna, Madhava and Garg, Sourav},
  title   = {{AnyLoc}: Towards Universal Visual Place Recognition},
  journal = {IEEE Robotics and Automation Letters},
  year    = {2023},
  note    = {arXiv:2308.00688}
}""",
    "larsson2020poselib": r"""@misc{larsson2020poselib,
  author       = {Larsson, Viktor and contributors},
  title        = {{PoseLib} -- Minimal Solvers for Camera Pose Estimation},
  howpublished = {https://github.com/PoseLib/PoseLib},
  year         = {2020}
}""",
    "lindenberger2023lightglue": r"""@inproceedings{lindenberger2023lightglue,
  author    = {Lindenberger, Philipp and Sarlin, Paul-Edouard and Pollefeys, Marc},
  title     = {{LightGlue}: Local Feature Matching at Light Speed},
  booktitle = {IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2023},
  note      = {arXiv:2306.13643}
}""",
    "lowe2004sift": r"""@article{lowe2004sift,
  author  = {Lowe, David G.},
  title   = {Distinctive Image Features from Scale-Invariant Keypoints},
  journal = {International Journal of Computer Vision},
  volume  = {60},
  number  = {2},
  pages   = {91--110},
  year    = {2004}
}""",
    "oquab2024dinov2": r"""@article{oquab2024dinov2,
  author  = {Oquab, Maxime and Darcet, Timoth{\'e}e and Moutakanni, Th{\'e}o and others},
  title   = {{DINOv2}: Learning Robust Visual Features without Supervision},
  journal = {Transactions on Machine Learning Research},
  year    = {2024},
  note    = {arXiv:2304.07193}
}""",
    "pan2024glomap": r"""@inproceedings{pan2024glomap,
  author    = {Pan, Linfei and Bar{\'a}th, D{\'a}niel and Pollefeys, Marc and Sch{\"o}nberger, Johannes L.},
  title     = {Global Structure-from-Motion Revisited},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2024}
}""",
    "potje2024xfeat": r"""@inproceedings{potje2024xfeat,
  author    = {Potje, Guilherme and Cadar, Felipe and Araujo, Andr{\'e} and Martins, Renato and
               Nascimento, Erickson R.},
  title     = {{XFeat}: Accelerated Features for Lightweight Image Matching},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024},
  note      = {arXiv:2404.19174}
}""",
    "schoenberger2016sfm": r"""@inproceedings{schoenberger2016sfm,
  author    = {Sch{\"o}nberger, Johannes Lutz and Frahm, Jan-Michael},
  title     = {Structure-from-Motion Revisited},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2016}
}""",
    "tolias2013asmk": r"""@inproceedings{tolias2013asmk,
  author    = {Tolias, Giorgos and Avrithis, Yannis and J{\'e}gou, Herv{\'e}},
  title     = {To aggregate or not to aggregate: selective match kernels for image search},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year      = {2013}
}""",
    "tyszkiewicz2020disk": r"""@inproceedings{tyszkiewicz2020disk,
  author    = {Tyszkiewicz, Micha{\l} J. and Fua, Pascal and Trulls, Eduard},
  title     = {{DISK}: Learning local features with policy gradient},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2020},
  note      = {arXiv:2006.13566}
}""",
    "yan2017geodesic": r"""@inproceedings{yan2017geodesic,
  author    = {Yan, Qingan and Yang, Long and Zhang, Ling and Xiao, Chunxia},
  title     = {Distinguishing the Indistinguishable: Exploring Structural Ambiguities via Geodesic Context},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2017}
}""",
    "zach2010loops": r"""@inproceedings{zach2010loops,
  author    = {Zach, Christopher and Klopschitz, Manfred and Pollefeys, Marc},
  title     = {Disambiguating Visual Relations Using Loop Constraints},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2010}
}""",
    "zhao2023aliked": r"""@article{zhao2023aliked,
  author  = {Zhao, Xiaoming and Wu, Xingming and Chen, Weihai and Chen, Peter C. Y. and Xu, Qingsong and Li, Zhengguo},
  title   = {{ALIKED}: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation},
  journal = {IEEE Transactions on Instrumentation and Measurement},
  volume  = {72},
  year    = {2023},
  note    = {arXiv:2304.03608}
}""",
}
