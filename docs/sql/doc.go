// Package sql has the guide's sink that writes exactly once into a database, in test files: what docs/writing-a-sink.md shows of
// it is compiled, and runs the contract of two-phase sinks on a real MariaDB.
package sql
