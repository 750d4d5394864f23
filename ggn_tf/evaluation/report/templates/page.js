"use strict";
for (const card of document.querySelectorAll(".case")) {
  const slider = card.querySelector("input[type=range]");
  const number = card.querySelector("output");
  const show = () => {
    const slice = Number(slider.value);
    for (const sheet of card.querySelectorAll(".slice img")) {
      const { columns, tile, margin } = sheet.dataset;
      sheet.style.left = `${-(slice % columns * tile + Number(margin)) * 100}%`;
      sheet.style.top = `${-(Math.floor(slice / columns) * tile + Number(margin)) * 100}%`;
    }
    number.textContent = slice + 1;
  };
  slider.addEventListener("input", show);
  // A browser that reloads the page keeps the positions of the sliders, but not of the pictures.
  show();
}
for (const gallery of document.querySelectorAll(".gallery")) {
  for (const box of gallery.querySelectorAll(".switches input")) {
    const apply = () => gallery.classList.toggle(`hide-${box.value}`, !box.checked);
    box.addEventListener("change", apply);
    apply();
  }
}
