// Command weblog counts page views and unique visitors per page and minute. It reads a directory of web access logs and
// goes on with a Kafka topic; results go to Redis and onto a page.
//
//	weblog                                                      embedded services, made-up traffic, page on 127.0.0.1:8080
//	weblog -once -logs DIR -live DIR2 -state DIR3 -out FILE     a bounded run that writes its results to a file
//
// See docs/weblog.md.
package main

import "github.com/weirline/weirline/examples/weblog/internal/app"

func main() { app.New().CLI().Main() }
