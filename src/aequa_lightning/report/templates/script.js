// Pointing at a participant, in a figure or in a table, shows the same participant everywhere.
const choose = (number) => {
  document.body.classList.toggle("choosing", number !== undefined);
  for (const mark of document.querySelectorAll("[data-who]")) {
    mark.classList.toggle("chosen", mark.dataset.who === number);
  }
};
const pointed = (event) => choose(event.target.closest?.("[data-who]")?.dataset.who);
for (const kind of ["pointerover", "click"]) document.addEventListener(kind, pointed);
