// Package weirline is a library for pipelines that survive any crash: sources that split their input, steps with state and
// event time, sinks that commit with the engine's checkpoints, and the engine that cuts through all of it at once.
//
// This package itself is empty. Begin with
//
//   - [github.com/weirline/weirline/engine] to build a pipeline, and engine/cli to make a binary of it;
//     operators for joins;
//   - [github.com/weirline/weirline/source] and [github.com/weirline/weirline/sink] to write a connector;
//   - connector/files, connector/kafka, connector/mysql, connector/objects, connector/postgres and connector/redis for those there are.
//
// A connector imports the contracts (source, sink) and the toolkits (enumerator, reader, hybrid, sink/async, sink/parts, txn), never the engine;
// the engine imports the contracts, never a connector. They meet in the pipeline's main.
package weirline
