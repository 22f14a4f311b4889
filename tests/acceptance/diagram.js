// Draws a Mermaid diagram and returns where everything is. The self-loop of a state is one path in newer versions of
// Mermaid, named like any edge, and three in older ones, named after the state.
async ([text, theme, font, width]) => {
  const letters = font ? { fontFamily: font, themeVariables: { fontFamily: font } } : {};
  mermaid.initialize({ startOnLoad: false, theme, ...letters });
  const place = document.getElementById("diagram");
  place.innerHTML = (await mermaid.render("drawn", text)).svg;
  const svg = place.querySelector("svg");
  place.style.width = width ? `${width}px` : svg.style.maxWidth;

  const box = (element) => {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    return [left, top, right, bottom];
  };
  const name = (id) => id.replace(/-cyclic-special-.*/, "-loop");
  const states = {};
  for (const node of svg.querySelectorAll("g.node")) {
    states[node.id.match(/state-(.+)-\d+$/)[1].replace("root_start", "[*]")] = box(node);
  }
  const paths = {};
  for (const path of svg.querySelectorAll(".edgePaths path")) {
    const points = (paths[name(path.dataset.id || path.id)] ||= []);
    const length = path.getTotalLength();
    for (let at = 0; at < length + 2; at += 2) {
      const { x, y } = path.getPointAtLength(Math.min(at, length)).matrixTransform(path.getScreenCTM());
      points.push([x, y]);
    }
  }
  const labels = {};
  for (const label of svg.querySelectorAll(".edgeLabels .label[data-id]")) {
    if (label.textContent.trim()) labels[name(label.dataset.id)] = box(label.querySelector("foreignObject"));
  }
  return { states, paths, labels };
};
