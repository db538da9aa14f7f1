// The model: points and cameras in WebGL, turned by mouse, finger or keys. Units: radii of the scene, y up.
(() => {
  const canvas = $("cloud");
  const gl = canvas && canvas.getContext("webgl", { alpha: true, antialias: true, premultipliedAlpha: true });
  if (!gl) return; // the still pictures stay
  document.getElementById("model").classList.add("turnable");
  $("viewer").hidden = false;

  // ---- what is drawn ----
  function compiled(vertex, fragment) {
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    return program;
  }
  const points = compiled(
    `attribute vec3 place; attribute vec3 colour; uniform mat4 view; uniform float size; uniform float unit; varying vec3 tint;
     void main() { gl_Position = view * vec4(place * unit, 1.0); gl_PointSize = clamp(size * 3.0 / gl_Position.w, size * 0.6, size * 2.0); tint = colour; }`,
    `precision mediump float; varying vec3 tint;
     void main() { vec2 at = gl_PointCoord - 0.5; if (dot(at, at) > 0.25) discard; gl_FragColor = vec4(tint, 1.0); }`);
  const lines = compiled(
    "attribute vec3 place; uniform mat4 view; void main() { gl_Position = view * vec4(place, 1.0); }",
    "precision mediump float; uniform vec4 colour; void main() { gl_FragColor = colour; }");

  function buffer(values) {
    const made = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, made);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    return made;
  }

  // A pyramid per camera: its centre to the corners of its picture, and the picture. Rotations are cam_from_shown.
  function pyramids(scene, depth) {
    const found = [];
    for (const [, x, y, z, a, b, c, d, e, f, g, h, i, wide, high] of scene.cameras) {
      const corner = (u, v) => [0, 1, 2].map((k) => [x, y, z][k] + depth * (u * [a, b, c][k] + v * [d, e, f][k] + [g, h, i][k]));
      const [p, q, r, s] = [corner(-wide, -high), corner(wide, -high), corner(wide, high), corner(-wide, high)];
      const centre = [x, y, z], up = corner(0, -1.45 * high);
      for (const [from, to] of [[centre, p], [centre, q], [centre, r], [centre, s], [p, q], [q, r], [r, s], [s, p], [p, up], [up, q]]) found.push(...from, ...to);
    }
    return new Float32Array(found);
  }

  const loaded = new Map();
  function load(number) {
    if (!loaded.has(number)) {
      const scene = data.scenes[number], frames = pyramids(scene, scene.frustum);
      loaded.set(number, {
        scene, count: scene.shown, corners: frames.length / 3,
        places: buffer(unpack(scene.points, Int16Array)), colours: buffer(unpack(scene.colours, Uint8Array)), frames: buffer(frames),
      });
    }
    return loaded.get(number);
  }

  // ---- where it is seen from ----
  let shown = load(0), view;
  const FOCAL = 1.9; // half the height of the canvas at distance 1 is 1 / FOCAL
  function start(yaw, pitch) { // so that nearly all points and cameras are in the picture
    view = { yaw, pitch, distance: 1, target: [0, 0, 0] };
    const [right, up, back] = axes(), { scene } = shown, places = scene.cameras.map((camera) => camera.slice(1, 4));
    const packed = unpack(scene.points, Int16Array), step = 3 * Math.ceil(packed.length / 6000);
    for (let i = 0; i < packed.length; i += step) places.push([...packed.subarray(i, i + 3)].map((value) => value * scene.unit));
    const seen = places.map((place) => [dot(place, right), dot(place, up), dot(place, back)]);
    const most = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];
    const frames = seen.slice(0, scene.cameras.length);
    const middle = [0, 1].map((axis) => {
      const [all, some] = [seen, frames].map((list) => list.map((at) => at[axis]));
      return (Math.min(most(all, 0.05), ...some) + Math.max(most(all, 0.95), ...some)) / 2;
    });
    const aspect = canvas.clientWidth / canvas.clientHeight || 1, scale = FOCAL * Math.min(1, aspect) / 0.88;
    const need = (list) => list.map(([x, y, z]) => z + scale * Math.max(Math.abs(x - middle[0]) / aspect, Math.abs(y - middle[1])));
    view.target = view.target.map((_, i) => middle[0] * right[i] + middle[1] * up[i]);
    view.distance = Math.max(0.3, most(need(seen), 0.94), most(need(frames), 1));
    return view;
  }
  const views = { front: () => start(shown.scene.yaw, 0.32), side: () => start(shown.scene.yaw + Math.PI / 2, 0.12), top: () => start(shown.scene.yaw, Math.PI / 2) };
  const axes = () => { // right, up, towards the viewer
    const { yaw, pitch } = view, [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    return [[cy, 0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]];
  };
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

  function matrix() { // clip_from_shown, column by column
    const [right, up, back] = axes(), near = 0.02, far = 60, aspect = canvas.width / canvas.height;
    const zoom = FOCAL * Math.min(1, aspect), depth = (far + near) / (near - far);
    const rows = [[zoom / aspect, right], [zoom, up], [1, back]].map(([scale, axis]) => [...axis.map((value) => scale * value), -scale * dot(axis, view.target)]);
    const z = rows[2];
    z[3] -= view.distance;
    const clip = [rows[0], rows[1], [depth * z[0], depth * z[1], depth * z[2], depth * z[3] + (2 * far * near) / (near - far)], [-z[0], -z[1], -z[2], -z[3]]];
    return new Float32Array([0, 1, 2, 3].flatMap((column) => clip.map((row) => row[column])));
  }

  let waiting = false;
  function redraw() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }
  const hex = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16) / 255);
  function draw() {
    waiting = false;
    const density = window.devicePixelRatio || 1, width = Math.round(canvas.clientWidth * density), height = Math.round(canvas.clientHeight * density);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const seen = matrix();
    gl.useProgram(points);
    gl.uniformMatrix4fv(gl.getUniformLocation(points, "view"), false, seen);
    gl.uniform1f(gl.getUniformLocation(points, "size"), Number($("point-size").value) * density);
    gl.uniform1f(gl.getUniformLocation(points, "unit"), shown.scene.unit);
    attribute(points, "place", shown.places, gl.SHORT, false);
    attribute(points, "colour", shown.colours, gl.UNSIGNED_BYTE, true);
    gl.drawArrays(gl.POINTS, 0, shown.count);
    if (!$("with-cameras").checked) return;
    gl.useProgram(lines);
    gl.uniformMatrix4fv(gl.getUniformLocation(lines, "view"), false, seen);
    gl.uniform4f(gl.getUniformLocation(lines, "colour"), ...hex(getComputedStyle(document.documentElement).getPropertyValue("--accent").trim()), 1);
    attribute(lines, "place", shown.frames, gl.FLOAT, false);
    gl.drawArrays(gl.LINES, 0, shown.corners);
    if (hovered >= 0) {
      gl.uniform4f(gl.getUniformLocation(lines, "colour"), ...hex(getComputedStyle(document.documentElement).getPropertyValue("--bad").trim()), 1);
      gl.drawArrays(gl.LINES, 20 * hovered, 20);
    }
  }
  function attribute(program, name, values, kind, isShare) {
    const place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, values);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 3, kind, isShare, 0, 0);
  }

  // ---- hands ----
  function turn(dx, dy) {
    view.yaw -= dx;
    view.pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, view.pitch + dy));
    redraw();
  }
  function move(dx, dy) { // in shares of the height of the canvas
    const [right, up] = axes(), step = view.distance;
    view.target = view.target.map((value, i) => value - step * (dx * right[i] - dy * up[i]));
    redraw();
  }
  function zoom(factor) {
    view.distance = Math.max(0.05, Math.min(30, view.distance * factor));
    redraw();
  }
  function look(name) {
    view = views[name]();
    redraw();
  }
  const fingers = new Map();
  let hovered = -1, travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId), now = [event.clientX, event.clientY];
    if (!before) return point(event);
    const others = [...fingers].filter(([id]) => id !== event.pointerId), [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.hypot(dx, dy);
    if (others.length) {
      const apart = (place) => Math.hypot(place[0] - others[0][1][0], place[1] - others[0][1][1]) || 1;
      zoom(apart(before) / apart(now));
      move(dx / 2 / canvas.clientHeight, dy / 2 / canvas.clientHeight);
    } else if (event.shiftKey || event.buttons > 1) move(dx / canvas.clientHeight, dy / canvas.clientHeight);
    else turn(dx * 0.007, dy * 0.007);
    fingers.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("click", (event) => {
    canvas.focus({ preventScroll: true });
    point(event);
    if (travelled < 5 && hovered >= 0) lightbox.open(shown.scene.cameras[hovered][0]);
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0012));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow && event.shiftKey) move(arrow[0] * 0.04, arrow[1] * 0.04);
    else if (arrow) turn(arrow[0] * 0.1, arrow[1] * 0.1);
    else if (event.key === "+" || event.key === "=") zoom(0.9);
    else if (event.key === "-") zoom(1 / 0.9);
    else if (event.key === "0" || event.key === "Home") look("front");
    else return;
    event.preventDefault();
  });

  function point(event) { // the camera under the pointer
    const box = canvas.getBoundingClientRect(), m = matrix(), tip = $("cloud-tip"), before = hovered;
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let nearest = 14;
    hovered = -1;
    if ($("with-cameras").checked) shown.scene.cameras.forEach(([, ...p], i) => {
      const [a, b, w] = [0, 1, 3].map((row) => m[row] * p[0] + m[row + 4] * p[1] + m[row + 8] * p[2] + m[row + 12]);
      const far = w > 0 ? Math.hypot((a / w + 1) / 2 * box.width - x, (1 - b / w) / 2 * box.height - y) : Infinity;
      if (far < nearest) [nearest, hovered] = [far, i];
    });
    tip.hidden = hovered < 0;
    if (hovered >= 0) {
      tip.textContent = data.photos[shown.scene.cameras[hovered][0]].name;
      tip.style.left = `${Math.min(x + 14, box.width - tip.offsetWidth - 8)}px`;
      tip.style.top = `${Math.max(8, y - 32)}px`;
    }
    if (before !== hovered) redraw();
  }
  canvas.addEventListener("pointerleave", () => { hovered = -1; $("cloud-tip").hidden = true; redraw(); });

  // ---- controls ----
  document.querySelectorAll("[data-view]").forEach((button) => button.addEventListener("click", () => look(button.dataset.view)));
  for (const id of ["point-size", "with-cameras"]) $(id).addEventListener("input", redraw);
  if ($("scene")) $("scene").addEventListener("change", () => { shown = load(Number($("scene").value)); look("front"); });
  new ResizeObserver(redraw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  look("front");
})();
