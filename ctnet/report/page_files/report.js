"use strict";
// The slider moves counts, ratios and drawn boxes; buttons lay heatmaps over pictures. Without this script the
// page shows the same at one score.
(() => {
  const counts = JSON.parse(document.getElementById("data").textContent).counts;
  const slider = document.getElementById("score");
  const ratio = (part, whole) => (whole ? (part / whole).toFixed(3) : "-");

  const values = ([right, wrong, objects], step) => ({
    right: right[step],
    wrong: wrong[step],
    missed: objects - right[step],
    precision: ratio(right[step], right[step] + wrong[step]),
    recall: ratio(right[step], objects),
  });

  const show = (step) => {
    const text = (step / 100).toFixed(2);
    slider.setAttribute("aria-valuetext", text);
    for (const place of document.querySelectorAll("#score-value, .threshold")) place.textContent = text;
    for (const place of document.querySelectorAll("[data-what]")) {
      const { run, class: label, what } = place.dataset;
      place.textContent = values(counts[run][label], step)[what];
    }
    for (const mark of document.querySelectorAll(".mark")) {
      const seen = Number(mark.dataset.step) >= step;
      if (mark.classList.contains("object")) mark.classList.toggle("missed", !seen);
      else mark.classList.toggle("off", !seen);
    }
    for (const caption of document.querySelectorAll(".found .caption")) {
      caption.classList.toggle("off", Number(caption.dataset.step) < step);
    }
    for (const picture of document.querySelectorAll("svg.found")) {
      const number = picture.querySelectorAll(".mark:not(.off)").length;
      picture.parentNode.querySelector("output").textContent = number;
    }
  };

  for (const button of document.querySelectorAll(".heat-button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      button.closest("figure").classList.toggle("hot", on);
    });
  }
  if (slider) {
    slider.addEventListener("input", () => show(Number(slider.value)));
    show(Number(slider.value));
  }
})();
