"""The same work on many machines, by Ray: encoding, transcoding and decoding.

The work is divided as in one process: batches of the same pictures, blocks of the same streams, their results
taken in the same order; so the rows are the same, whatever does them and however often it is killed. What is
here hands the work to a cluster. The store is written to by the process that was called, which gives
pictures their names, while tasks write the shards. Every machine sees the source, the store and local models
under the same paths.
"""
