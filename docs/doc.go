// Package docs has the code that the pages in this folder show, compiled and tested, and a test that they show nothing else.
// It exports nothing; see README.md.
package docs
