/** A stream that is truncated, damaged, or written with other tables; the message names the field. */
export class ClpError extends Error {
  name = "ClpError";
}

/** A stream has no layer of the kind that is asked for. */
export class MissingLayerError extends ClpError {
  name = "MissingLayerError";
}
