// Package rest asks servers by HTTP for the connectors that do: one client with connections to keep, TLS, credentials and
// compression, and answers that are read to their end, but never further than a limit.
//
//	c := rest.New(rest.Options{Conns: 8})
//	defer c.CloseIdle()
//	a, err := c.Do(ctx, rest.Request{Method: "POST", URL: url, Body: body}, 4096)
//
// Do makes one request and follows no redirect: what is sent must not become something else on its way. It waits as long as ctx
// lasts. A client may be used by any number of goroutines, and starts none but those of net/http. What a status means is the
// caller's to say.
package rest
