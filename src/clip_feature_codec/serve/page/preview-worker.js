// Decodes streams beside the page, so that it scrolls meanwhile.

import { decodeLayout } from "/web/src/index.js";

// There are 41 frequencies in a layout: these pixels hold them all, and the rest is the browser's to make smooth.
const PIXELS = 80;

onmessage = async ({ data: { number, bytes, size, codec } }) => {
  try {
    const { width, height, data } = decodeLayout(bytes, { size: Math.min(size, PIXELS), codec });
    const scale = size / Math.max(width, height);
    const picture = await createImageBitmap(new ImageData(data, width, height), {
      resizeWidth: Math.max(1, Math.round(width * scale)),
      resizeHeight: Math.max(1, Math.round(height * scale)),
      resizeQuality: "high",
    });
    postMessage({ number, picture }, [picture]);
  } catch {
    postMessage({ number }); // without a layout, or of a codec that is not known here: the page shows the name
  }
};
