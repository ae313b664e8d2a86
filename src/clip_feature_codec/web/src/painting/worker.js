import { Downloads } from "../ort.js";
import { answer } from "../remote.js";
import { Decoder } from "./decoder.js";

answer(async ({ base, device }, progress) => {
  const decoder = await Decoder.open(new URL(base), new Downloads(progress("loading")), device);
  return {
    load: () => ({ device: decoder.device }),
    paint: ({ bytes, options }, progress, check) => {
      const told = progress("painting");
      return decoder.paint(bytes, options, (done, total) => {
        told(done, total);
        return check();
      });
    },
  };
});
