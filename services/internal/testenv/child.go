package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/engine"
)

// engineEnv, when set, makes a test binary an engine. Its value is a childSpec.
const engineEnv = "AUDITRAIL_TEST_ENGINE"

// childSpec is what the parent tells the child.
type childSpec struct {
	Config engine.Config
	// Temp is the parent's folder, which goes with the child when the parent is
	// dead. A child that is told to end may be started again on it.
	Temp string
}

// childReady is the line that the child writes to standard output once it serves.
type childReady struct{ Addr, HTTPAddr string }

// engineChild is the main of a child. It ends when its standard input does.
func engineChild(spec string) int {
	var s childSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log, err := zap.NewDevelopment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 2
	}
	served := false
	ready := func(native, http net.Addr) {
		served = true
		line := childReady{Addr: native.String()}
		if http != nil {
			line.HTTPAddr = http.String()
		}
		_ = json.NewEncoder(os.Stdout).Encode(line) // a parent that is gone does not read it
	}
	err = engine.Run(ctx, s.Config, engine.Deps{Log: log, Ready: ready})
	if served && ctx.Err() == nil { // standard input ended: the parent died
		_ = os.RemoveAll(s.Temp)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		return 1
	}
	return 0
}
