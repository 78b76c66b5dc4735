// The legend of the map.

function drawLegend(state) {
  const layer = content.layers[state.layer];
  const scale = QUANTITIES[state.quantity].of(layer, state.width);
  const items = (scale.names || []).map(([name, tint]) => [swatch(tint), name]);
  lineLayers(layer, state.quantity).forEach((one, i, all) => {
    const column = lineColumn(one, state.quantity);
    const text = `measured, S${all.length > 1 ? `(${symbol(one.name)})` : ""} = 0${column === "slope" ? "" : " at m → ∞"}`;
    if (one.measured[column].gamma.some(known)) items.push([sample(i ? "dots" : "line", "#000000"), text]);
  });
  if (bandTraces(layer, state.quantity).length) items.push([sample("band", "#3b3b3b"), "95 % band"]);
  if (lineLayers(layer, state.quantity).some((one) => one.predicted))
    items.push([sample("dashes", content.colours.predicted), "predicted"]);
  if (content.named.length) items.push([sample("diamond", "#ffffff"), "named initialisation"]);
  if (content.networks.length) items.push([sample("circle", "#ffffff"), "network kept"]);
  if (missingTrace(scale)) items.push([sample("cross", colour("quiet"), "none"), scale.missing || "no value"]);
  showLegend("legend", items);
}
