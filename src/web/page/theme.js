// Sets the theme before anything is drawn, so that a dark page does not begin with a flash.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("kops-mirror.theme");
  } catch {
    // Storage may be forbidden; the system's theme will do.
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
})();
