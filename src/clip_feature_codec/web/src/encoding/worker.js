import { Downloads } from "../ort.js";
import { answer } from "../remote.js";
import { PictureEncoder } from "./encoder.js";
import { opaque } from "./pixels.js";

answer(async ({ base, device }, tell) => {
  const downloads = new Downloads((...bytes) => tell("loading", ...bytes));
  const encoder = await PictureEncoder.open(new URL(base), downloads, device);
  return {
    load: () => ({ device: encoder.device }),
    embed: (image) => encoder.embed(opaque(image)),
    encode: ({ image, maxBytes }) => encoder.encode(opaque(image), maxBytes),
  };
});
