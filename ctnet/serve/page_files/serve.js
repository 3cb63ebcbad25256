"use strict";
// Sends an image to /detect with a low threshold; the slider shows and hides what came back.
(() => {
  const { thresholds, shapes } = JSON.parse(document.getElementById("data").textContent);
  const LOWEST = 0.01;
  const SVG = "http://www.w3.org/2000/svg";
  const get = (id) => document.getElementById(id);
  const slider = get("score");
  const said = get("said");
  let answer = null; // of the last image
  let moved = false; // until then, every class has its own threshold
  let latest = 0; // number of the last image: answers may overtake each other

  const say = (text, isError = false) => {
    said.textContent = text;
    said.classList.toggle("error", isError);
  };

  const isShown = (found) => (moved ? found.score >= slider.value / 100 : found.score > thresholds[found.label]);

  const element = (name, attributes, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };

  // Pairs of numbers; points without a place are left out.
  const pairs = (numbers, width) => {
    const found = [];
    for (let at = 0; at + 1 < numbers.length; at += width) {
      const [x, y, score] = numbers.slice(at, at + width);
      if (x !== null && y !== null && (score === undefined || score >= 0.3)) found.push([x, y]);
    }
    return found;
  };

  const outlines = (found, unit) => {
    const made = [];
    for (const { keys, kind, width } of shapes) {
      const value = keys.reduce((held, key) => (held ?? {})[key], found) ?? [];
      if (kind === "points") {
        for (const [cx, cy] of pairs(value, width)) made.push(element("circle", { cx, cy, r: 4 * unit }));
      } else {
        for (const ring of kind === "polygon" ? [value] : value) {
          made.push(element("polygon", { points: pairs(ring, width).join(" ") }));
        }
      }
    }
    return made;
  };

  const mark = (found, width, unit) => {
    const [left, top, right, bottom] = found.box;
    const group = element("g", { class: `mark c${found.label % 8}` });
    const size = 15 * unit;
    const text = element("text", {
      x: Math.min(Math.max(left + 2 * unit, 0), width - 2 * unit),
      y: top > 1.3 * size ? top - 4 * unit : top + size,
      "text-anchor": left > 0.7 * width ? "end" : "start",
      "font-size": size,
    }, `${found.name} ${found.score.toFixed(2)}`);
    text.style.fontSize = `${size}px`;
    text.style.strokeWidth = `${3 * unit}px`;
    if (left > 0.7 * width) text.setAttribute("x", Math.min(right, width - 2 * unit));
    const box = element("rect", { x: left, y: top, width: right - left, height: bottom - top });
    box.style.filter = `drop-shadow(0 0 ${unit}px #000)`; // a rim, as wide on the screen for every image
    group.append(...outlines(found, unit), box, text);
    return group;
  };

  const row = (found) => {
    const made = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = found.name;
    made.append(head);
    for (const text of [found.score.toFixed(3), ...found.box.map((side) => side.toFixed(1))]) {
      made.insertCell().textContent = text;
    }
    return made;
  };

  const show = () => {
    if (!answer) return;
    const visible = answer.detections.filter(isShown);
    // One pixel of the screen, in pixels of the image.
    const unit = answer.width / (get("picture").clientWidth || answer.width);
    get("marks").setAttribute("viewBox", `0 0 ${answer.width} ${answer.height}`);
    // The best one is drawn last, on top.
    get("marks").replaceChildren(...visible.map((found) => mark(found, answer.width, unit)).reverse());
    get("table").querySelector("tbody").replaceChildren(...visible.map(row));
    get("table").hidden = visible.length === 0;
    const objects = visible.length === 1 ? "1 object" : `${visible.length} objects`;
    say(`${objects} in ${answer.width}x${answer.height} pixels (${answer.milliseconds} ms).`);
    get("marks").setAttribute("aria-label", `${objects} marked in the image`);
  };

  const detect = async (file) => {
    latest += 1;
    const mine = latest;
    answer = null;
    get("shown").hidden = get("table").hidden = true;
    say("Detecting...");
    const headers = { Accept: "application/json" };
    if (get("token")) headers.Authorization = `Bearer ${get("token").value}`;
    const started = performance.now();
    let found;
    try {
      const response = await fetch(`detect?score=${LOWEST}`, { method: "POST", body: file, headers });
      found = await response.json();
    } catch (error) {
      found = { error: `The service does not answer (${error.message}).` };
    }
    if (mine !== latest) return;
    if (found.error) {
      say(found.error, true);
      return;
    }
    found.milliseconds = Math.round(performance.now() - started);
    const picture = get("picture");
    URL.revokeObjectURL(picture.src);
    picture.alt = file.name || "the image";
    picture.src = URL.createObjectURL(file);
    await picture.decode().catch(() => {}); // what the browser cannot show has its marks all the same
    if (mine !== latest) return;
    answer = found;
    get("shown").style.maxWidth = `${Math.max(found.width, 640)}px`; // small images are enlarged a little
    get("shown").hidden = false;
    show();
  };

  const first = (files) => {
    if (files.length) detect(files[0]);
  };
  get("file").addEventListener("change", (event) => first(event.target.files));
  document.addEventListener("paste", (event) => first(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    get("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => get("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    get("drop").classList.remove("over");
    first(event.dataTransfer.files);
  });
  slider.addEventListener("input", () => {
    moved = true;
    const text = (slider.value / 100).toFixed(2);
    slider.setAttribute("aria-valuetext", text);
    get("score-value").textContent = text;
    show();
  });
  window.addEventListener("resize", show);
  get("token")?.form.addEventListener("submit", (event) => event.preventDefault()); // it is sent with images
})();
