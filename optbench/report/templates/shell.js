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

document.addEventListener("click", async ({ target }) => {
  if (!target.matches?.(".copy")) return;
  await navigator.clipboard.writeText(target.parentElement.querySelector("pre").textContent);
  target.textContent = "Copied";
  setTimeout(() => { target.textContent = "Copy"; }, 1500);
});
