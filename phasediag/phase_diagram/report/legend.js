// The legend of the map.

function drawLegend(state) {
  const scale = scaleOf(state);
  const one = chosenMeasure(state);
  const items = (scale.names || []).map(([name, tint]) => [swatch(tint), name]);
  items.push(...(one ? measureItems(one) : lineItems(content.layers[state.layer], state.quantity)));
  if (content.named.length) items.push([sample("diamond", "#ffffff"), "named initialisation"]);
  if (content.networks.length) items.push([sample("circle", "#ffffff"), "network kept"]);
  if (missingTrace(scale)) items.push([sample("cross", colour("quiet"), "none"), scale.missing || "no value"]);
  showLegend("legend", items);
}

/** The lines of a map of the relative change. */
function lineItems(layer, quantity) {
  const items = [];
  lineLayers(layer, quantity).forEach((one, i, all) => {
    const column = lineColumn(one, quantity);
    const text = `measured, S${all.length > 1 ? `(${symbol(one.name)})` : ""} = 0${column === "slope" ? "" : " at m → ∞"}`;
    if (one.measured[column].gamma.some(known)) items.push([sample(i ? "dots" : "line", "#000000"), text]);
  });
  if (bandTraces(bandLine(layer, quantity)).length) items.push([sample("band", "#3b3b3b"), "95 % band"]);
  if (lineLayers(layer, quantity).some((one) => one.predicted))
    items.push([sample("dashes", content.colours.predicted), "predicted"]);
  return items;
}
