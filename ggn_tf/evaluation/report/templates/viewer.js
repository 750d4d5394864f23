// The axes (x, y, z) across a plane, along its rows and along its columns; z runs upwards.
const PLANES = { axial: [2, 0, 1], coronal: [1, 0, 2], sagittal: [0, 1, 2] };
const UPWARDS = 2;

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return bytes;
}

function openRegion(element) {
  const size = element.dataset.size.split(" ").map(Number);
  const mask = bytesOf(element.dataset.mask);
  const planes = [...element.querySelectorAll("figure")].map(figure => ({
    axes: PLANES[figure.dataset.plane],
    canvas: figure.querySelector("canvas"),
    slider: figure.querySelector("input"),
    output: figure.querySelector("output"),
  }));
  return {
    size, planes, strides: [1, size[0], size[0] * size[1]],
    hu: new Int16Array(bytesOf(element.dataset.hu).buffer),
    inside: voxel => voxel >= 0 && (mask[voxel >> 3] >> (voxel & 7)) & 1,
  };
}

// The index of the voxel of each pixel of a slice, or -1 beyond its edge.
function voxelsOf(region, plane) {
  const [across, u, v] = plane.axes, { size, strides } = region;
  const base = Number(plane.slider.value) * strides[across];
  return (column, row) => column < 0 || row < 0 || column >= size[u] || row >= size[v] ? -1
    : base + column * strides[u] + (v === UPWARDS ? size[v] - 1 - row : row) * strides[v];
}

function drawSlice(region, plane, low, high, withMask) {
  const [, u, v] = plane.axes, { canvas } = plane, width = region.size[u], height = region.size[v];
  const voxel = voxelsOf(region, plane), image = new ImageData(width, height);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at += 4) {
      image.data.fill((region.hu[voxel(column, row)] - low) * 255 / (high - low), at, at + 3);
      image.data[at + 3] = 255;
    }
  }
  const small = Object.assign(document.createElement("canvas"), { width, height });
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const unit = [canvas.width / width, canvas.height / height];
  if (withMask) drawOutline(context, (column, row) => region.inside(voxel(column, row)), width, height, unit);
  drawTicks(region, plane, context, unit);
}

// The edges of the pixels inside the mask, where their neighbours are outside.
function drawOutline(context, inside, width, height, [unitX, unitY]) {
  context.beginPath();
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!inside(column, row)) continue;
      const left = column * unitX, right = left + unitX, top = row * unitY, bottom = top + unitY;
      for (const [side, down, fromX, fromY, toX, toY] of [[-1, 0, left, top, left, bottom], [1, 0, right, top, right, bottom],
        [0, -1, left, top, right, top], [0, 1, left, bottom, right, bottom]]) {
        if (inside(column + side, row + down)) continue;
        context.moveTo(fromX, fromY);
        context.lineTo(toX, toY);
      }
    }
  }
  stroke(context, "#ffdc00", 3);
}

// Short lines at the edges, where the other two planes are.
function drawTicks(region, plane, context, [unitX, unitY]) {
  const [, u, v] = plane.axes, { width, height } = plane.canvas, length = width / 25;
  const shown = axis => Number(region.planes.find(other => other.axes[0] === axis).slider.value) + 0.5;
  const x = shown(u) * unitX, y = (v === UPWARDS ? region.size[v] - shown(v) : shown(v)) * unitY;
  context.beginPath();
  for (const [fromX, fromY, toX, toY] of [[x, 0, x, length], [x, height, x, height - length],
    [0, y, length, y], [width, y, width - length, y]]) {
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
  }
  stroke(context, "#5cc8ff", 4);
}

function stroke(context, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

for (const viewer of document.querySelectorAll(".viewer")) {
  const regions = [...viewer.querySelectorAll(".region")].map(openRegion);
  const draw = () => {
    const { low, high } = viewer.querySelector("[type=radio]:checked").dataset;
    const withMask = viewer.querySelector("[type=checkbox]")?.checked;
    for (const region of regions) {
      for (const plane of region.planes) {
        const { first, step } = plane.slider.dataset;
        plane.output.textContent = (Number(first) + plane.slider.value * step).toFixed(1);
        drawSlice(region, plane, Number(low), Number(high), withMask);
      }
    }
  };
  // Other regions follow by millimetres from the point where their planes meet.
  const follow = (moved, number) => {
    const offset = (moved.value - moved.dataset.start) * moved.dataset.step;
    for (const region of regions) {
      const { slider } = region.planes[number];
      if (slider !== moved) slider.value = Number(slider.dataset.start) + Math.round(offset / slider.dataset.step);
    }
  };
  for (const region of regions) {
    region.planes.forEach((plane, number) => plane.slider.addEventListener("input", () => { follow(plane.slider, number); draw(); }));
  }
  for (const box of viewer.querySelectorAll(".switches input")) box.addEventListener("change", draw);
  viewer.classList.add("live");
  draw();
}
