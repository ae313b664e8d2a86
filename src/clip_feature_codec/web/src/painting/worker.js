import { Downloads } from "../ort.js";
import { answer } from "../remote.js";
import { Decoder } from "./decoder.js";

answer(async ({ base, device }, tell) => {
  const decoder = await Decoder.open(new URL(base), new Downloads((...bytes) => tell("loading", ...bytes)), device);
  return {
    load: () => ({ device: decoder.device }),
    paint: ({ bytes, options }, tell, check) =>
      decoder.paint(bytes, options, (done, total) => {
        tell("painting", done, total);
        return check();
      }),
  };
});
