"use strict";
// Every image holds the same frame twice, rainy above derained, so that the slider compares like with like.

const HISTORY = 60; // seconds in the plots
const WORDS = { backoff: "trying again" };
const cards = new Map();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

class Card {
  constructor(camera) {
    this.index = camera.index;
    this.node = document.getElementById("camera").content.firstElementChild.cloneNode(true);
    this.canvas = this.find("image");
    this.slider = this.find("slider");
    this.image = null;
    this.frame = -1;
    this.state = "";
    this.history = { fps_out: [], latency_ms: [], dropped: [], tier: [] };
    this.dropped = null;
    this.facts = new Map();
    this.node.dataset.camera = camera.index;
    this.find("name").textContent = camera.name;
    this.find("still").href = `/api/cameras/${camera.index}/still.png`;
    this.slider.addEventListener("input", () => this.draw());
    document.getElementById("cameras").append(this.node);
    this.draw();
    this.follow();
  }

  find(name) {
    return this.node.querySelector("." + name);
  }

  // Ask for the next frame when the last one has been drawn: a slow link gets fewer, never older, frames.
  async follow() {
    for (;;) {
      const visible = document.visibilityState === "visible";
      const width = Math.ceil(this.canvas.clientWidth * (window.devicePixelRatio || 1));
      try {
        if (!visible) {
          await pause(500);
          continue;
        }
        const response = await fetch(`/api/cameras/${this.index}/pair.jpg?after=${this.frame}&width=${width}`);
        if (response.status === 200) {
          const number = Number(response.headers.get("x-vderain-frame"));
          const passed = response.headers.get("x-vderain-passed") === "1";
          this.image = await createImageBitmap(await response.blob());
          this.frame = number;
          this.node.dataset.frame = number;
          this.node.dataset.passed = passed;
          this.node.classList.remove("empty");
          this.draw();
        } else {
          await pause(response.status === 204 ? 0 : 1000);
        }
      } catch (error) {
        await pause(1000);
      }
      await pause(80); // about ten frames a second: enough to compare, and it leaves the machine to the network
    }
  }

  draw() {
    const share = this.slider.value / 1000;
    this.find("bar").style.left = `${100 * share}%`;
    if (!this.image) return;
    const width = this.image.width;
    const height = this.image.height / 2;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const context = this.canvas.getContext("2d");
    const border = Math.round(share * width);
    context.drawImage(this.image, 0, height, width, height, 0, 0, width, height);
    if (border > 0) context.drawImage(this.image, 0, 0, border, height, 0, 0, border, height);
  }

  show(camera) {
    const state = this.find("state");
    const word = WORDS[camera.state] || camera.state;
    state.textContent = word;
    state.dataset.state = camera.state;
    this.find("reason").textContent = camera.reason;
    const running = camera.state === "running";
    this.find("view").classList.toggle("old", !running);
    const notice = this.find("notice");
    notice.textContent = running
      ? camera.flag && `Sent rainy: ${camera.flag}`
      : `No live frames: ${word} for ${duration(camera.since_s)}`;
    notice.hidden = !notice.textContent;
    const dropped = sum(camera.drops);
    const recent = this.dropped === null ? 0 : Math.max(0, dropped - this.dropped);
    this.dropped = dropped;
    this.remember("fps_out", running ? camera.fps_out : 0);
    this.remember("latency_ms", running ? camera.latency_ms : 0);
    this.remember("dropped", recent);
    // The rung: the line is high for the best one, low while rainy frames are sent.
    const tiers = camera.tiers.filter((tier) => tier !== "passthrough").reverse();
    this.remember("tier", running ? tiers.indexOf(camera.tier) + 1 : 0);
    this.fact("Frames per second", `${camera.fps_out} of ${camera.fps_in}`, "", "fps_out");
    this.fact("Latency", milliseconds(camera.latency_ms), `95 %: ${milliseconds(camera.latency_p95_ms)}`, "latency_ms");
    this.fact("Dropped", dropped, reasons(camera.drops), "dropped");
    this.fact("Tier", camera.tier, "", "tier", tiers.length);
    this.fact("Size", camera.size || "–");
    this.fact("Frames", `${camera.frames.derained || 0} derained`, `${camera.frames.passed || 0} sent rainy`);
    this.fact("Reconnected", `${camera.reconnects} times`);
    this.fact("Decoding errors", camera.decode_errors);
    this.showOutputs(camera.outputs);
  }

  fact(name, value, detail, plotted, top) {
    let entry = this.facts.get(name);
    if (!entry) {
      const group = document.createElement("div");
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      const small = document.createElement("dd");
      small.className = "detail";
      group.append(term, text, small);
      entry = { text, small, path: plotted ? plot(group) : null };
      this.facts.set(name, entry);
      this.find("facts").append(group);
    }
    entry.text.textContent = value;
    entry.small.textContent = detail || "";
    if (entry.path) entry.path.setAttribute("d", line(this.history[plotted], top));
  }

  remember(name, value) {
    const values = this.history[name];
    values.push(value || 0);
    if (values.length > HISTORY) values.shift();
  }

  showOutputs(outputs) {
    this.find("outputs").replaceChildren(...outputs.map((output) => {
      const text = document.createElement("p");
      text.textContent = `→ ${output.name}: ${output.state}${output.reason ? ", " + output.reason : ""}`;
      text.classList.toggle("down", output.state !== "running");
      return text;
    }));
  }
}

function plot(group) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "plot");
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 28`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  svg.append(path);
  group.append(svg);
  return path;
}

function line(values, highest) {
  const top = highest || Math.max(...values, 1e-9);
  const start = HISTORY - values.length;
  return values.map((v, i) => `${i ? "L" : "M"}${start + i} ${(26 - 24 * v / top).toFixed(1)}`).join("");
}

function milliseconds(value) {
  return value === null ? "–" : `${Math.round(value)} ms`;
}

function reasons(drops) {
  return Object.entries(drops).map(([reason, count]) => `${count} ${reason}`).join(", ");
}

function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

async function watch() {
  const overview = document.getElementById("overview");
  for (;;) {
    try {
      const response = await fetch("/api/cameras");
      if (!response.ok) throw new Error(response.status === 401 ? "the token is missing" : `status ${response.status}`);
      const { cameras } = await response.json();
      for (const camera of cameras) {
        if (!cards.has(camera.index)) cards.set(camera.index, new Card(camera));
        cards.get(camera.index).show(camera);
      }
      const running = cameras.filter((camera) => camera.state === "running").length;
      overview.textContent = `${running} of ${cameras.length} cameras running`;
      overview.classList.remove("lost");
    } catch (error) {
      overview.textContent = `No connection to vderain: ${error.message}`;
      overview.classList.add("lost");
    }
    await pause(1000);
  }
}

watch();
