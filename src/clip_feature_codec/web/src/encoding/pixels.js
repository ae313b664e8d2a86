// Pixels of what a page calls a picture.

/** Opaque RGBA of an ImageBitmap, or of pixels; what can be seen through is laid over white. */
export function opaque(image) {
  const { width, height } = image;
  if (typeof ImageBitmap !== "undefined" && image instanceof ImageBitmap) {
    const canvas = new OffscreenCanvas(width, height).getContext("2d");
    canvas.fillStyle = "white";
    canvas.fillRect(0, 0, width, height);
    canvas.drawImage(image, 0, 0);
    return canvas.getImageData(0, 0, width, height);
  }
  const data = new Uint8ClampedArray(image.data);
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3] / 255;
    if (alpha < 1) for (let c = 0; c < 3; c++) data[i + c] = data[i + c] * alpha + 255 * (1 - alpha);
  }
  return { width, height, data };
}
