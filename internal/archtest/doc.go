// Package archtest holds the rules of the repository's shape as tests: which package may import which, who starts goroutines,
// how long files and functions get, what the contracts export, which modules are used. It has no code of its own; what a
// rule forbids, why, and what to do instead is in the rule's message.
//
//	go test ./internal/archtest            # all rules
//	go test ./internal/archtest -rewrite   # after a wanted change of the contracts: renew testdata/api
//
// Each rule is a function from parsed sources to complaints, so each is also tried on a small wrong input: a rule that can't
// fail protects nothing.
package archtest
