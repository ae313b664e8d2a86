"""The same work on many machines, by Ray: encoding, transcoding and decoding.

The shapes of the work, and its results, are those of one process: batches of the same pictures, blocks of the same
streams, taken in the same order. What is here hands them to a cluster and gives its results back in their order; the
store is written to by one process, which starts the work, while tasks write its shards. Every machine sees the
source, the store and local models under the same paths.
"""
