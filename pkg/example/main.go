// Example is a module under audit and limits, to copy. See docs/modules.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/limittopic"
	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/pkg/emit"
)

// caller is a TOY: it believes what two headers say. Verify a token instead.
func caller(r *http.Request) (apicall.Caller, bool) {
	customer, user := r.Header.Get("X-Toy-Subscription"), r.Header.Get("X-Toy-User")
	return apicall.Caller{CustomerUUID: customer, UserName: user, Tier: apicall.TierStandard}, customer != "" && user != ""
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	kafka := []string{os.Getenv("KAFKA_ADDR")} // host:port; one broker names the others
	limits := must(limittopic.Open(ctx, limittopic.Config{Brokers: kafka}))
	emitter := must(emit.New(emit.Config{Brokers: kafka}))
	calls := must(apicall.New(apicall.Config{ModuleCode: "PM", Sink: emitter, Caller: caller, Limits: limits}))
	addJob := func(w http.ResponseWriter, r *http.Request) {
		if who, ok := caller(r); !ok {
			http.Error(w, "say who you are", http.StatusUnauthorized)
		} else if err := emitter.Emit(audit.Event{
			CustomerUUID: who.CustomerUUID, UserName: who.UserName, ModuleCode: "PM", Action: "Add", CreatedDate: time.Now().UnixMilli(),
		}); err != nil {
			http.Error(w, "not added, for it cannot be recorded: "+err.Error(), http.StatusServiceUnavailable)
		}
	}
	http.Handle("POST /api/v1/jobs", calls.Handler("api/v1/jobs", http.HandlerFunc(addJob)))
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second}
	listener := must((&net.ListenConfig{}).Listen(ctx, "tcp", os.Getenv("HTTP_ADDR")))
	fmt.Println("listening on", listener.Addr())
	go func() { _ = server.Serve(listener) }() // ends with Shutdown
	<-ctx.Done()
	stop() // a second signal kills
	drain, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(0, errors.Join(server.Shutdown(drain), calls.Close(drain), emitter.Close(drain)))
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
	return v
}
