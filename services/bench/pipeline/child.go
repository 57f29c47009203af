package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/services/broker"
	"github.com/auditrail/auditrail/services/engine"
	"github.com/auditrail/auditrail/services/ingest"
	"github.com/auditrail/auditrail/services/internal/ops"
	"github.com/auditrail/auditrail/services/loadgen"
	"github.com/auditrail/auditrail/services/query"
	"github.com/auditrail/auditrail/services/reporter"
)

// childEnv, when set, makes this program a child of itself. What to be comes
// on standard input.
const childEnv = "AUDITRAIL_BENCH_CHILD"

// childSpec says what a child is: one of its fields is set.
type childSpec struct {
	Broker *broker.Config
	Engine *engine.Config
	Ingest *ingestSpec
	Limit  *limitSpec
	Load   *loadgen.Config
	Query  *query.Config
	Report *reporter.Config
}

// ingestSpec is the ingest service, all of it.
type ingestSpec struct {
	Config  ingest.Config
	Profile string // file for its CPU profile; empty: none
}

// reply is what a child says: once when it is ready, once for each request,
// and once more when it ends.
type reply struct {
	Addr  string // where it listens
	Usage usage  // since it was ready to begin
	Last  bool
	Err   string // why it ended; empty when it was asked to, or was done
}

// request asks a child for its usage.
type request struct{}

func isChild() bool { return os.Getenv(childEnv) != "" }

// childMain is the main of a child. The end of standard input, which comes
// with the parent's death at the latest, ends it.
func childMain() int {
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.NewFile(3, "replies"))
	var spec childSpec
	if err := in.Decode(&spec); err != nil {
		fmt.Fprintln(os.Stderr, "child of the benchmark:", err)
		return 2
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	from := usageNow()
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- spec.run(ctx, func(addr string) { ready <- addr }) }()
	requests := make(chan request)
	go func() {
		defer stop()
		for {
			var r request
			if in.Decode(&r) != nil {
				return
			}
			requests <- r
		}
	}()
	for {
		r := reply{}
		select {
		case r.Addr = <-ready:
		case <-requests:
		case err := <-ended:
			r.Last = true
			if err != nil && !errors.Is(err, context.Canceled) {
				r.Err = err.Error()
			}
		}
		r.Usage = usageNow().since(from)
		if out.Encode(r) != nil || r.Last {
			return 0
		}
	}
}

// run is the child's work, until ctx ends or it is done.
func (s childSpec) run(ctx context.Context, ready func(addr string)) error {
	log, err := quiet()
	if err != nil {
		return err
	}
	switch {
	case s.Broker != nil:
		b, err := broker.Start(ctx, *s.Broker, broker.Deps{Log: log})
		if err != nil {
			return err
		}
		defer b.Close()
		ready(b.Addr())
		<-ctx.Done()
		return nil
	case s.Engine != nil:
		return engine.Run(ctx, *s.Engine, engine.Deps{Log: log, Ready: func(native, _ net.Addr) { ready(native.String()) }})
	case s.Ingest != nil:
		ready("")
		return s.Ingest.run(ctx, log)
	case s.Limit != nil:
		ready("")
		return s.Limit.run(ctx)
	case s.Load != nil:
		ready("")
		return loadgen.Run(ctx, *s.Load, loadgen.Deps{Log: log})
	case s.Query != nil:
		return serveQuery(ctx, *s.Query, log, ready)
	case s.Report != nil:
		ready("")
		return reporter.Run(ctx, *s.Report, reporter.Deps{Log: log, Ops: ops.New(log)})
	}
	return errors.New("nothing to be")
}

// unlimited are the limits of API calls: what is measured is the service.
type unlimited struct{}

func (unlimited) Limit(string, string) (apicall.Limit, bool) { return apicall.Limit{}, true }

// serveQuery is the query service, all of it, on a port of its own.
func serveQuery(ctx context.Context, cfg query.Config, log *zap.Logger, ready func(addr string)) error {
	s, err := query.New(cfg, query.Deps{Log: log, Ops: ops.New(log), CallLimits: unlimited{}}) //nolint:contextcheck // its clients outlive any one request
	if err != nil {
		return err
	}
	ln, err := ops.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, s.Close()) //nolint:contextcheck // it ends after ctx
	}
	ready(ln.Addr().String())
	return errors.Join(ops.Serve(ctx, ln, s.Handler(), ops.DefaultDrain, log), s.Close()) //nolint:contextcheck // it ends after ctx
}

func (s *ingestSpec) run(ctx context.Context, log *zap.Logger) error {
	debug.SetMemoryLimit(s.Config.Limits.HeapLimit()) // as auditrail ingest does
	if s.Profile != "" {
		f, err := os.Create(s.Profile)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // a cut profile does not read
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return ingest.Run(ctx, s.Config, ingest.Deps{Log: log, Ops: ops.New(log)})
}

// quiet logs to standard error what is wrong, and nothing else.
func quiet() (*zap.Logger, error) {
	cfg := zap.NewProductionConfig()
	cfg.Level.SetLevel(zap.WarnLevel)
	return cfg.Build()
}

// defaults is a service's configuration as its subcommand has it without flags.
func defaults[T any]() (T, error) {
	var cfg T
	err := kong.ApplyDefaults(&cfg)
	return cfg, err
}

// child is a running child, for one goroutine.
type child struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	in      *gob.Encoder
	replies chan reply // closed when it has died or said its last
	addr    string     // where it listens, if it does
}

// startChild runs a child and returns when it is ready.
func startChild(spec childSpec) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	from, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)                     //nolint:gosec,noctx // this program; it ends with its standard input
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // the engine may print
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(os.Environ(), childEnv+"=1")
	// A process group of its own: Ctrl-C is ours, and ends the child through
	// its standard input.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	err = cmd.Start()
	_ = theirs.Close() // the child has its own
	if err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stdin: stdin, in: gob.NewEncoder(stdin), replies: make(chan reply, 1)}
	go func() {
		defer close(c.replies)
		defer from.Close() //nolint:errcheck // read to its end
		out := gob.NewDecoder(from)
		for {
			var r reply
			if out.Decode(&r) != nil {
				return
			}
			c.replies <- r
		}
	}()
	if err := c.in.Encode(spec); err != nil {
		c.kill()
		return nil, err
	}
	r, err := c.read()
	if err != nil {
		c.kill()
		return nil, err
	}
	c.addr = r.Addr
	return c, nil
}

// read waits for a reply that is not the last.
func (c *child) read() (reply, error) {
	r, ok := <-c.replies
	return r, early(r, ok)
}

// early is the error of a child that ended before it was asked to, if it did.
func early(r reply, ok bool) error {
	switch {
	case !ok:
		return errors.New("a process of the benchmark died")
	case r.Last:
		return fmt.Errorf("a process of the benchmark ended early: %s", r.Err)
	}
	return nil
}

// usage asks what the child has used so far.
func (c *child) usage() (usage, error) {
	if err := c.in.Encode(request{}); err != nil {
		return usage{}, err
	}
	r, err := c.read()
	return r.Usage, err
}

// stop asks the child to end, and returns what it used in all.
func (c *child) stop() (usage, error) {
	_ = c.stdin.Close() // wait finds out
	return c.wait()
}

// wait returns what the child used once it has ended.
func (c *child) wait() (usage, error) {
	defer c.kill()
	for r := range c.replies {
		if r.Last && r.Err != "" {
			return r.Usage, errors.New(r.Err)
		}
		if r.Last {
			return r.Usage, nil
		}
	}
	return usage{}, errors.New("a process of the benchmark died")
}

// kill ends a child that has nothing left to say, or is not listened to.
func (c *child) kill() {
	_ = c.stdin.Close()
	if c.cmd.ProcessState != nil {
		return
	}
	for range c.replies {
	}
	_ = c.cmd.Wait() // what went wrong was said in its replies
}
