// The button for the colour scheme, and those that copy commands.

const themes = ["", "light", "dark"];
const button = document.getElementById("theme");
const nameTheme = () => button.setAttribute("aria-label", `Colour scheme: ${document.documentElement.dataset.theme || "as the system"}`);
nameTheme();
button.addEventListener("click", () => {
  const root = document.documentElement.dataset;
  root.theme = themes[(themes.indexOf(root.theme ?? "") + 1) % themes.length];
  nameTheme();
  try { localStorage.setItem("optbench-theme", root.theme); } catch { /* no storage */ }
});

for (const copy of document.querySelectorAll(".copy")) {
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(copy.previousElementSibling.textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
}
