// Package leaks holds the tests of what a job may use: goroutines and file handles that come back after every restart, and
// memory that stays within its budget when a destination is slow. `make leaks` runs the long form of them, `make test` a
// short one.
//
//	make leaks            1,000 restarts, a minute of a slow sink
//	go test ./internal/leaks -v
package leaks
