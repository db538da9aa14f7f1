"use strict";
// The page without its model: the lightbox, the view graph and the match matrix under the pointer.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// ---- lightbox ----
const lightbox = (() => {
  const dialog = $("lightbox"), image = $("lightbox-image"), canvas = $("lightbox-points"), box = image.parentElement;
  const thumbs = [...document.querySelectorAll(".thumb")];
  const order = thumbs.map((thumb) => Number(thumb.dataset.photo)); // as they stand in the page
  let place = 0;

  function show(number) {
    place = Math.max(0, order.indexOf(number));
    const photo = data.photos[order[place]], thumb = thumbs[place];
    const facts = thumb.parentElement.querySelector(".why, .facts");
    $("lightbox-name").textContent = photo.name;
    $("lightbox-facts").textContent = `${place + 1} of ${order.length}` + (facts ? `: ${facts.textContent.replace(/\s+/g, " ").trim()}` : "");
    box.hidden = !photo.has;
    $("lightbox-none").hidden = photo.has;
    $("lightbox-seen").disabled = !photo.seen;
    if (photo.has) {
      const small = $(`photo-${order[place]}`);
      image.src = small.src;
      image.alt = photo.name;
      image.width = small.width;
      fit();
    }
  }

  function fit() { // as large as the window lets it, up to twice its pixels
    const photo = data.photos[order[place]], small = $(`photo-${order[place]}`);
    if (!dialog.open || !photo.has) return;
    const width = Number(small.getAttribute("width")), height = Number(small.getAttribute("height"));
    const stage = box.parentElement, gap = 32;
    const scale = Math.min((stage.clientWidth - gap) / width, (stage.clientHeight - gap / 2) / height, 2);
    image.style.width = `${Math.round(width * scale)}px`;
    image.style.height = `${Math.round(height * scale)}px`;
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale * density);
    canvas.height = Math.round(height * scale * density);
    if (!photo.seen || !$("lightbox-seen").checked) return;
    const points = unpack(photo.seen, Uint16Array), pen = canvas.getContext("2d");
    pen.fillStyle = "#3de0d0";
    pen.strokeStyle = "#04211fb0";
    for (let i = 0; i < points.length; i += 2) {
      pen.beginPath();
      pen.arc((points[i] / 65535) * canvas.width, (points[i + 1] / 65535) * canvas.height, 2.2 * density, 0, 7);
      pen.fill();
      pen.stroke();
    }
  }

  function open(number) {
    if (!dialog.open) dialog.showModal();
    show(number);
    fit();
  }
  const step = (by) => show(order[(place + by + order.length) % order.length]);

  thumbs.forEach((thumb) => thumb.addEventListener("click", () => open(Number(thumb.dataset.photo))));
  $("lightbox-next").addEventListener("click", () => step(1));
  $("lightbox-previous").addEventListener("click", () => step(-1));
  $("lightbox-close").addEventListener("click", () => dialog.close());
  $("lightbox-seen").addEventListener("change", fit);
  dialog.addEventListener("click", (event) => { if (event.target.classList.contains("lightbox-stage")) dialog.close(); });
  dialog.addEventListener("close", () => thumbs[place] && thumbs[place].focus());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  window.addEventListener("resize", fit);
  return { open };
})();

// ---- view graph: the ties of a photo under the pointer ----
if ($("graph")) {
  const graph = $("graph"), edges = [...graph.querySelectorAll("path")], spots = edges.map((edge) => edge.getAttribute("d"));
  const place = (node) => `${node.getAttribute("cx")} ${node.getAttribute("cy")}`;
  graph.addEventListener("pointerover", (event) => {
    const node = event.target.closest("circle");
    graph.classList.toggle("focus", Boolean(node));
    edges.forEach((edge, i) => edge.classList.toggle("near", Boolean(node) && spots[i].slice(1).split("L").includes(place(node))));
  });
  graph.addEventListener("pointerleave", () => graph.classList.remove("focus"));
  graph.addEventListener("click", (event) => {
    const node = event.target.closest("circle");
    if (node) lightbox.open(Number(node.dataset.photo));
  });
}

// ---- match matrix: the pair under the pointer ----
if ($("matrix")) {
  const image = $("matrix").querySelector("img"), tip = $("matrix-tip");
  const known = new Map(data.pairs.map((row) => [`${row[0]} ${row[1]}`, row]));
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect(), n = data.photos.length;
    const at = (value, start, length) => Math.min(n - 1, Math.max(0, Math.floor(((value - start) / length) * n)));
    const side = Math.min(box.width, box.height);
    const column = at(event.clientX, box.left + (box.width - side) / 2, side), row = at(event.clientY, box.top + (box.height - side) / 2, side);
    const found = known.get(`${Math.min(row, column)} ${Math.max(row, column)}`);
    const names = `${data.photos[row].name} ↔ ${data.photos[column].name}`;
    if (row === column) tip.textContent = data.photos[row].name;
    else if (!found) tip.textContent = names;
    else tip.textContent = `${names}: ${found[2]} matches, ${found[3] ? `${found[3]} inliers` : "not verified"}`;
  });
  image.addEventListener("pointerleave", () => { tip.textContent = ""; });
}

window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
