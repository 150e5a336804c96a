"use strict";
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const HOUR = 3600000;
  const start = Date.parse(page.start + ":00Z");
  const config = {
    displaylogo: false, responsive: true, displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  const root = document.documentElement;
  const opened = performance.now();

  // --- dates as plotly takes them: milliseconds; the plan year has no 29 February
  const date = hour => start + HOUR * (hour + (page.leap_hour !== null && hour >= page.leap_hour ? 24 : 0));
  const dates = (first, step, count) => Float64Array.from({ length: count }, (_, i) => date(first + i * step));

  // --- packed arrays: base64 of deflated low and high bytes of differences along each row
  const unpacked = new Map();
  function unpack(name) {
    if (!unpacked.has(name)) unpacked.set(name, inflate(name));
    return unpacked.get(name);
  }
  async function inflated(script) {
    const packed = Uint8Array.from(atob(script.textContent), c => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
  }
  const plotly = inflated(document.getElementById("plotly")).then(response => response.text()).then(text => {
    document.head.append(node("script", { textContent: text }));
  });
  async function inflate(name) {
    const { rows, columns, low, step } = page.packs[name];
    const bytes = new Uint8Array(await (await inflated(document.getElementById("pack-" + name))).arrayBuffer());
    const count = rows * columns;
    const values = [];
    for (let r = 0, i = 0; r < rows; r++) {
      const row = new Float64Array(columns);
      let code = 0;
      for (let c = 0; c < columns; c++, i++) {
        code = (code + bytes[i] + 256 * bytes[count + i]) & 65535;
        row[c] = code === 65535 ? NaN : low + step * code;
      }
      values.push(row);
    }
    return values;
  }

  // --- theme: colours and scales are names in the specs
  const theme = () => root.dataset.theme === "dark" ? "dark" : "light";
  function resolve(value) {
    if (typeof value === "string" && value.startsWith("--")) {
      const scale = page.scales[value.slice(2)];
      return scale ? scale[theme()] : getComputedStyle(root).getPropertyValue(value).trim();
    }
    if (Array.isArray(value)) return value.map(resolve);
    if (ArrayBuffer.isView(value) || value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item)]));
  }
  function merge(base, more) {
    const merged = { ...base };
    for (const [key, value] of Object.entries(more || {})) {
      const nested = value && typeof value === "object" && !Array.isArray(value) && !ArrayBuffer.isView(value);
      merged[key] = nested && merged[key] ? merge(merged[key], value) : value;
    }
    return merged;
  }
  function baseLayout(timeline) {
    const axis = {
      gridcolor: "--line", linecolor: "--faint", zerolinecolor: "--faint", zerolinewidth: 1, automargin: true,
      ticks: "outside", ticklen: 4, tickcolor: "--faint", title: { standoff: 8, font: { size: 12 } },
      exponentformat: "none", separatethousands: true,
    };
    return {
      separators: ".\u202f",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "--muted" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 16, t: 34, b: 36 },
      xaxis: { ...axis, showgrid: false, type: timeline ? "date" : undefined, hoverformat: page.hours > 1000 ? "%a %d %b %Y" : "%a %d %b, %H:%M" },
      yaxis: { ...axis },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 }, bgcolor: "rgba(0,0,0,0)", traceorder: "normal" },
      hovermode: "x unified",
      hoverlabel: { bgcolor: "--page", bordercolor: "--faint", font: { color: "--ink", size: 12 } },
    };
  }

  // --- drawing
  const drawings = new Map(); // plot element -> {data, layout}, unresolved, for a change of theme
  async function draw(element, data, layout) {
    const timeline = data.some(t => t.x && t.x.count);
    const filled = await Promise.all(data.map(fill));
    const full = merge(baseLayout(timeline), layout);
    const named = filled.filter(t => t.name && t.showlegend !== false).length;
    if (full.showlegend === undefined) full.showlegend = named > 1;
    if (!full.showlegend && !(layout.margin && layout.margin.t !== undefined)) full.margin.t = 10;
    drawings.set(element, { data: filled, layout: full });
    await Plotly.react(element, resolve(filled), resolve(full), config);
  }
  async function fill(trace) {
    const filled = { ...trace };
    if (trace.x && trace.x.count) filled.x = dates(trace.x.first, trace.x.step, trace.x.count);
    for (const key of ["z", "x", "y"]) {
      const value = trace[key];
      if (!value || !value.pack) continue;
      const rows = await unpack(value.pack);
      filled[key] = value.row === undefined ? rows : rows[value.row];
    }
    if (filled.colorbar) {
      filled.colorbar = merge(filled.colorbar, { tickfont: { size: 11 }, title: { font: { size: 12 } } });
    }
    if (filled.type === "heatmap" && filled.rows) {
      const columns = filled.z[0].length;
      filled.customdata = filled.rows.map(name => new Array(columns).fill(name));
      delete filled.rows;
    }
    return filled;
  }
  function redraw() {
    for (const [element, { data, layout }] of drawings) Plotly.react(element, resolve(data), resolve(layout), config);
  }

  // --- traces: the command that tells where a value comes from
  const bar = document.querySelector("aside.trace");
  function tell(address) {
    bar.querySelector("code").textContent = `bos trace '${address.replaceAll("'", "'\\''")}'`;
    bar.hidden = false;
  }
  bar.querySelector(".copy").addEventListener("click", () => {
    getSelection().selectAllChildren(bar.querySelector("code"));
    document.execCommand("copy"); // a page that was opened from a file has no clipboard of its own
  });
  bar.querySelector(".close").addEventListener("click", () => { bar.hidden = true; });
  document.addEventListener("click", event => {
    const row = event.target.closest("tr[data-trace]");
    if (row) tell(row.dataset.trace);
  });
  function hourOf(stamp) {
    const passed = Math.round((Date.parse(String(stamp).replace(" ", "T") + (String(stamp).length > 10 ? "Z" : "T00:00Z")) - start) / HOUR);
    return page.leap_hour !== null && passed >= page.leap_hour ? passed - 24 : passed;
  }

  // --- controls
  function node(tag, attributes, ...children) {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  }
  function selector(controls, label, names, groups, choose) {
    const select = node("select", { ariaLabel: label });
    let parent = select, group = "";
    names.forEach((name, i) => {
      if (groups && groups[i] !== group) {
        group = groups[i];
        parent = group ? select.appendChild(node("optgroup", { label: group })) : select;
      }
      parent.append(node("option", { value: i, textContent: name }));
    });
    select.addEventListener("change", () => choose(Number(select.value)));
    controls.append(node("label", {}, label, select));
    return select;
  }
  function stepper(controls, select) {
    const step = by => {
      const next = Number(select.value) + by;
      if (next < 0 || next >= select.options.length) return;
      select.value = next;
      select.dispatchEvent(new Event("change"));
    };
    controls.append(
      node("button", { type: "button", textContent: "‹", title: "Previous", onclick: () => step(-1) }),
      node("button", { type: "button", textContent: "›", title: "Next", onclick: () => step(1) }));
  }
  function summaryLine(figure) {
    const line = node("p", { className: "summary-line" });
    figure.querySelector("figcaption").append(line);
    return line;
  }
  const show = (value, digits) => Number.isFinite(value)
    ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replaceAll(",", "\u202f") : "–";
  const hourAxis = { x: { first: 0, step: 1, count: page.hours } };
  const limitLine = (value, yref) => ({
    type: "line", xref: "paper", x0: 0, x1: 1, yref, y0: value, y1: value, line: { color: "--limit", width: 1.2, dash: "dash" },
  });
  const limitLabel = (value, yref, text, below) => ({
    xref: "paper", x: 1, xanchor: "right", yref, y: value, yanchor: below ? "top" : "bottom", text, showarrow: false, bgcolor: "--label", borderpad: 1,
    font: { size: 11, color: "--limit" },
  });

  // The area between two hourly curves, one closed shape for each stretch without gaps.
  const band = (low, high, more) => {
    const x = [], y = [], known = h => Number.isFinite(low[h]) && Number.isFinite(high[h]);
    for (let h = 0; h < low.length; h++) {
      if (!known(h)) continue;
      const first = h;
      while (h + 1 < low.length && known(h + 1)) h++;
      for (let k = first; k <= h; k++) { x.push(date(k)); y.push(low[k]); }
      for (let k = h; k >= first; k--) { x.push(date(k)); y.push(high[k]); }
      x.push(null);
      y.push(null);
    }
    return { type: "scatter", mode: "lines", x, y, fill: "toself", line: { width: 0 }, hoverinfo: "skip", showlegend: false, ...more };
  };

  // --- kinds of charts
  const kinds = {
    async figure(figure, spec) {
      const plot = figure.querySelector(".plot");
      const view = i => draw(plot, spec.views[i].data, spec.views[i].layout);
      if (spec.views.length > 1) {
        selector(figure.querySelector(".controls"), spec.label, spec.views.map(v => v.label), null, view);
      }
      await view(0);
    },

    async explorer(figure, spec) {
      const plot = figure.querySelector(".plot");
      const curve = node("div"), clock = node("div");
      plot.append(node("div", { className: "pair" }, curve, clock));
      const controls = figure.querySelector(".controls");
      const summary = summaryLine(figure);
      const format = `.${spec.digits}f`;
      let chosen = 0;
      async function choose(i) {
        chosen = i;
        const values = (await unpack(spec.values.pack))[i];
        const known = values.filter(Number.isFinite);
        const mean = known.reduce((a, b) => a + b, 0) / known.length;
        const low = spec.low && spec.low[i], high = spec.high && spec.high[i];
        const least = known.reduce((a, b) => Math.min(a, b), Infinity);
        const most = known.reduce((a, b) => Math.max(a, b), -Infinity);
        summary.textContent = `${spec.element} ${spec.names[i]}: lowest ${show(least, spec.digits)}, mean ` +
          `${show(mean, spec.digits)}, highest ${show(most, spec.digits)} ${spec.unit}` +
          (known.length < values.length ? `; a value in ${show(known.length, 0)} of ${show(values.length, 0)} hours` : "");
        const limits = [[low, "lower limit", true], [high, "upper limit", false]].filter(([v]) => Number.isFinite(v));
        const reach = limits.map(([v]) => v).concat([least, most]).filter(Number.isFinite);
        const pad = 0.08 * (Math.max(...reach) - Math.min(...reach)) || 0.01 * Math.abs(reach[0]) || 1;
        await draw(curve, [{
          type: "scatter", mode: "lines", ...hourAxis, y: values, connectgaps: false,
          line: { color: "--curve", width: values.length > 1000 ? 0.8 : 1.5 },
          hovertemplate: `%{y:${format}} ${spec.unit}<extra></extra>`,
        }], {
          xaxis: { hoverformat: "%a %d %b %Y, %H:%M" },
          yaxis: { title: { text: `${spec.quantity} in ${spec.unit}` }, range: reach.length ? [Math.min(...reach) - pad, Math.max(...reach) + pad] : undefined },
          shapes: limits.map(([v]) => limitLine(v, "y")),
          annotations: limits.map(([v, text, below]) => limitLabel(v, "y", text, below)),
          margin: { t: 14 },
        });
        await draw(clock, [clockMap(values, spec, format, least, most)], {
          yaxis: { title: { text: "Hour of the day" }, dtick: 6, showgrid: false, range: [-0.5, 23.5] },
          xaxis: { hoverformat: "%a %d %b %Y" },
          hovermode: "closest", margin: { t: 14 },
        });
      }
      const select = selector(controls, spec.element, spec.names, spec.groups, choose);
      stepper(controls, select);
      await choose(0);
      if (spec.trace) {
        curve.on("plotly_click", event => {
          tell(`${spec.trace}[hour=${page.first_hour + hourOf(event.points[0].x)},element=${spec.names[chosen]}]`);
        });
      }
    },

    async contingency(figure, spec) {
      const plot = figure.querySelector(".plot");
      const curves = node("div"), overview = node("div");
      plot.append(node("div", { className: "stack" }, curves, overview));
      const controls = figure.querySelector(".controls");
      const summary = summaryLine(figure);
      const [loading, low, high, outcome] = await Promise.all(
        [spec.loading, spec.vm_min, spec.vm_max, spec.outcome].map(r => unpack(r.pack)));
      let chosen = 0;
      async function choose(i) {
        chosen = i;
        summary.textContent = `${spec.names[i]} out: ${spec.summaries[i]}`;
        const width = loading[i].length > 1000 ? 0.8 : 1.5;
        const curve = (y, name, color, yaxis, hover, more) => ({
          type: "scatter", mode: "lines", name, ...hourAxis, y, yaxis, line: { color, width }, connectgaps: false,
          hovertemplate: `${name} %{y:${hover}<extra></extra>`, showlegend: false, ...more,
        });
        const marks = (code, name, color, symbol) => {
          const x = [];
          outcome[i].forEach((v, h) => { if (v === code) x.push(date(h)); });
          return { type: "scatter", mode: "markers", name, x, y: x.map(() => 1), yaxis: "y3", marker: { color, symbol, size: 7 },
            hovertemplate: `${name}<extra></extra>`, showlegend: x.length > 0 };
        };
        const top = Math.max(spec.loading_limit, ...loading[i].filter(Number.isFinite)) * 1.08;
        const volts = [spec.vm_low, spec.vm_high, ...low[i].filter(Number.isFinite), ...high[i].filter(Number.isFinite)];
        const floor = volts.reduce((a, b) => Math.min(a, b)) - 0.035, ceiling = volts.reduce((a, b) => Math.max(a, b)) + 0.035;
        await draw(curves, [
          curve(loading[i], "highest loading", "--curve", "y", ".1f} %"),
          band(low[i], high[i], { yaxis: "y2", fillcolor: "--band" }),
          curve(low[i], "lowest voltage", "--curve", "y2", ".4f} p.u."),
          curve(high[i], "highest voltage", "--curve", "y2", ".4f} p.u."),
          marks(1, "islanded", "#ddaa33", "triangle-up"), marks(2, "diverged", "#cc3311", "x"),
        ], {
          xaxis: { anchor: "y2", hoverformat: "%a %d %b %Y, %H:%M" },
          yaxis: { title: { text: "Loading in %" }, domain: [0.54, 0.96], range: [0, top] },
          yaxis2: { title: { text: "Voltage in p.u.", standoff: 8, font: { size: 12 } }, domain: [0, 0.44], range: [floor, ceiling], gridcolor: "--line", automargin: true, zeroline: false },
          yaxis3: { domain: [0.96, 1], range: [0, 2], visible: false, fixedrange: true },
          shapes: [limitLine(spec.loading_limit, "y"), limitLine(spec.vm_low, "y2"), limitLine(spec.vm_high, "y2")],
          annotations: [
            limitLabel(spec.loading_limit, "y", `limit ${show(spec.loading_limit, 0)} %`),
            limitLabel(spec.vm_low, "y2", `limit ${spec.vm_low} p.u.`, true),
            limitLabel(spec.vm_high, "y2", `limit ${spec.vm_high} p.u.`),
          ],
          margin: { l: 64, r: 108, t: 22 },
        });
      }
      const select = selector(controls, "Contingency", spec.names.map((n, i) => `${i + 1}. ${n}`), null, choose);
      stepper(controls, select);
      const rows = (await unpack(spec.overview.pack)).length;
      await draw(overview, [{
        type: "heatmap", z: spec.overview, x: { first: 0, step: spec.overview_bin_h, count: Math.ceil(page.hours / spec.overview_bin_h) }, rows: spec.names,
        y: Array.from({ length: rows }, (_, i) => i + 1), colorscale: "--diverging", zmin: 0, zmid: spec.loading_limit, zmax: 2 * spec.loading_limit,
        colorbar: { title: { text: "Loading in %", side: "right" }, thickness: 12, len: 1, outlinewidth: 0 },
        hovertemplate: "%{y}. %{customdata}<br>%{x}: %{z:.1f} %<extra></extra>",
      }], {
        yaxis: { title: { text: "Rank of contingency" }, autorange: "reversed", showgrid: false },
        hovermode: "closest", margin: { l: 64, r: 108, t: 10 },
      });
      overview.on("plotly_click", event => {
        select.value = event.points[0].y - 1;
        select.dispatchEvent(new Event("change"));
      });
      await choose(0);
      const again = new Set(spec.adjusted);
      curves.on("plotly_click", event => {
        const hour = hourOf(event.points[0].x);
        const head = again.has(hour) ? spec.traces.again : spec.traces.first;
        tell(`${head}[hour=${page.first_hour + hour},contingency=${spec.names[chosen]}]`);
      });
    },
  };

  function clockMap(values, spec, format, least, most) {
    const first = new Date(start).getUTCHours();
    const days = Math.ceil((first + values.length) / 24);
    const z = Array.from({ length: 24 }, () => new Float64Array(days).fill(NaN));
    values.forEach((v, h) => { z[(first + h) % 24][Math.floor((first + h) / 24)] = v; });
    return {
      type: "heatmap", z, x: { first: -first, step: 24, count: days }, y: z.map((_, h) => h), colorscale: "--sequential",
      ...(most - least < 1e-9 ? { zmin: least - 1, zmax: least + 1 } : {}),
      colorbar: { title: { text: `${spec.quantity} in ${spec.unit}`, side: "right" }, thickness: 10, len: 1, outlinewidth: 0 },
      hovertemplate: `%{x}, hour %{y}: %{z:${format}} ${spec.unit}<extra></extra>`,
    };
  }

  // --- draw what is near the view first, the rest when the browser is idle, so that printing finds all
  const started = new Map();
  function begin(figure) {
    if (started.has(figure)) return started.get(figure);
    const spec = page.charts[figure.id];
    const done = plotly.then(() => kinds[spec.kind](figure, spec)).catch(error => {
      figure.querySelector(".plot").replaceChildren(node("p", { className: "failed", textContent: `This figure cannot be drawn: ${error.message}` }));
      console.error(figure.id, error);
    });
    started.set(figure, done);
    return done;
  }
  const figures = [...document.querySelectorAll("figure.chart")];
  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); begin(entry.target); }
  }, { rootMargin: "500px 0px" });
  figures.forEach(f => watcher.observe(f));
  const idle = window.requestIdleCallback || (f => setTimeout(f, 50));
  async function drawRest() {
    for (const figure of figures) {
      await new Promise(resume => idle(resume));
      await begin(figure);
    }
    root.dataset.complete = "yes";
  }

  // --- files that the page carries
  for (const box of document.querySelectorAll(".download")) {
    const button = box.querySelector("button");
    button.addEventListener("click", async () => {
      const link = node("a", { download: button.dataset.file });
      link.href = URL.createObjectURL(await (await inflated(box.querySelector("script"))).blob());
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    });
  }

  // --- contents, theme, print
  const links = new Map([...document.querySelectorAll(".contents a")].map(a => [a.hash.slice(1), a]));
  const parts = [...links.keys()].map(id => document.getElementById(id));
  function mark() {
    const here = parts.filter(p => p.getBoundingClientRect().top < 140).pop() || parts[0];
    links.forEach((link, id) => link.classList.toggle("here", id === here.id));
  }
  document.addEventListener("scroll", mark, { passive: true });
  mark();
  const button = document.getElementById("theme");
  function setTheme(name) {
    root.dataset.theme = name;
    button.textContent = name === "dark" ? "Light" : "Dark";
    redraw();
  }
  button.addEventListener("click", () => setTheme(theme() === "dark" ? "light" : "dark"));
  document.getElementById("print").addEventListener("click", async () => {
    for (const figure of figures) await begin(figure);
    window.print();
  });
  let screenTheme = null;
  window.addEventListener("beforeprint", () => { screenTheme = theme(); if (screenTheme === "dark") setTheme("light"); });
  window.addEventListener("afterprint", () => { if (screenTheme === "dark") setTheme("dark"); });
  setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  window.BOS_REPORT = { begin, figures, opened };
  root.dataset.ready = "yes";
  idle(drawRest);
})();
