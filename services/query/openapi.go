package query

import (
	_ "embed"
	"net/http"
	"strconv"
)

// openAPIPath is the one path of the API that wants no token.
const openAPIPath = "/openapi.json"

// openAPI describes the API: OpenAPI 3.1. Tests hold it to the route table, to
// the limits, and to what requests and answers look like.
//
//go:embed openapi.json
var openAPI []byte

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(openAPI)))
	h.Set("Cache-Control", "no-cache") // it changes with the service's version
	_, _ = w.Write(openAPI)            // a client that hung up is no error of ours
}
