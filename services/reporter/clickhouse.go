package reporter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/store"
)

// What can go wrong with a statement. All but errRefused may pass: the same
// statement is worth another try.
var (
	errAway    = errors.New("ClickHouse cannot be reached")
	errBusy    = errors.New("ClickHouse is busy")
	errBroken  = errors.New("ClickHouse's answer broke off")
	errRefused = errors.New("ClickHouse refused the statement")
)

// priority is that of reports in ClickHouse: searches have 1, exports 2, and the
// lower go first.
const priority = "3"

// clickHouse asks ClickHouse over its HTTP interface, which formats the rows.
// Safe for concurrent use.
type clickHouse struct {
	urls     []*url.URL
	next     atomic.Uint32 // of urls; another one after each failure to reach it
	cfg      store.Config
	settings map[string]string
	http     *http.Client
	log      *zap.Logger
}

// dialTimeout bounds a connection attempt.
const dialTimeout = 5 * time.Second

// newClickHouse makes a client whose statements take that many threads and bytes
// of memory each, in ClickHouse. The caller closes it.
func newClickHouse(cfg store.Config, at store.HTTPConfig, threads int, memory int64) (*clickHouse, error) {
	urls, err := at.URLs()
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"priority":             priority,
		"max_threads":          strconv.Itoa(threads),
		"max_memory_usage":     strconv.FormatInt(memory, 10),
		"max_execution_time":   "0",
		"max_rows_to_read":     "0",
		"max_result_rows":      "0",
		"max_result_bytes":     "0",
		"result_overflow_mode": "throw", // half an answer must not pass for a whole
		"read_overflow_mode":   "throw",
		"log_comment":          "auditrail report",
		// Nobody looks for an error in a format.
		"http_write_exception_in_output_format": "0",
	}
	for name, value := range sqlgen.Settings {
		settings[name] = fmt.Sprint(value)
	}
	return &clickHouse{urls: urls, cfg: cfg, settings: settings, log: zap.NewNop(), http: &http.Client{
		Transport: &http.Transport{
			DialContext:        (&net.Dialer{Timeout: dialTimeout}).DialContext,
			DisableCompression: true,
			IdleConnTimeout:    time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the password along
	}}, nil
}

// readBuffer is how much is read from a connection at a time: past the client's
// own buffer, which is smaller.
const readBuffer = 256 << 10

func (c *clickHouse) close() { c.http.CloseIdleConnections() }

// stream runs a statement and hands the answer's body to each, piece by piece;
// a piece is valid during the call. It returns nil only after the whole answer.
// Errors wrap one of the above, are ctx's, or are those of each as they are.
func (c *clickHouse) stream(ctx context.Context, stmt sqlgen.Statement, each func([]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	at := c.next.Load()
	to, id, ended := c.urls[int(at)%len(c.urls)], uuid.NewString(), false
	defer func() {
		cancel() // when each fails, we leave
		if !ended {
			c.kill(ctx, to, id)
		}
	}()
	req, err := c.request(ctx, to, stmt, id)
	if err != nil {
		ended = true // it did not begin
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.next.CompareAndSwap(at, at+1)
		return away(ctx, err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK || res.Header.Get("X-ClickHouse-Exception-Code") != "" {
		text, err := io.ReadAll(io.LimitReader(res.Body, maxException))
		if err != nil {
			return away(ctx, err)
		}
		ended = true
		return exception(res, text)
	}
	tail := tail{tag: []byte(res.Header.Get("X-ClickHouse-Exception-Tag"))}
	for buf := make([]byte, readBuffer); ; {
		n, err := res.Body.Read(buf)
		tail.add(buf[:n])
		if n > 0 {
			if err := each(buf[:n]); err != nil {
				return err
			}
		}
		if err == nil {
			continue
		}
		if text := tail.exception(); text != nil { // the same as data, but for its tag
			ended = true
			return exception(res, text)
		}
		if err == io.EOF {
			ended = true
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", errBroken, err)
	}
}

// killTimeout bounds the attempt to end a statement.
const killTimeout = 2 * time.Second

// kill ends a statement that we left: ClickHouse goes on with one whose client is
// gone until it has rows to send. It is asked where the statement runs. Should
// that fail, the statement ends by itself, later. The embedded engine ends it by
// itself at once, and knows no ids.
func (c *clickHouse) kill(ctx context.Context, at *url.URL, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	req, err := c.post(ctx, at, "KILL QUERY WHERE query_id = {id:String} ASYNC", url.Values{"param_id": {id}})
	if err != nil {
		c.log.Debug("a statement is not killed", zap.Error(err))
		return
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.log.Debug("a statement is not killed", zap.Error(away(ctx, err)))
		return
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK {
		c.log.Debug("a statement is not killed", zap.String("status", res.Status))
	}
}

// request makes the request of a statement that gets an id. Values travel in its URL, but for credentials,
// which would stay in logs.
func (c *clickHouse) request(ctx context.Context, at *url.URL, stmt sqlgen.Statement, id string) (*http.Request, error) {
	format, settings := stmt.Output()
	if format == "" {
		format = "TSV"
	}
	v := url.Values{"default_format": {format}, "database": {c.cfg.Database}, "query_id": {id}}
	for _, m := range []map[string]string{c.settings, settings} {
		for name, value := range m {
			v.Set(name, value)
		}
	}
	for name, value := range stmt.Params() {
		v.Set("param_"+name, value)
	}
	return c.post(ctx, at, stmt.SQL(), v)
}

func (c *clickHouse) post(ctx context.Context, at *url.URL, sql string, v url.Values) (*http.Request, error) {
	u := *at
	u.RawQuery = v.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-ClickHouse-User", c.cfg.User)
	req.Header.Set("X-ClickHouse-Key", c.cfg.Password)
	return req, nil
}

// numbers runs a statement whose columns are whole numbers, and returns its rows.
func (c *clickHouse) numbers(ctx context.Context, stmt sqlgen.Statement) ([][]int64, error) {
	var text bytes.Buffer
	err := c.stream(ctx, stmt, func(b []byte) error {
		_, err := text.Write(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	var rows [][]int64
	for line := range strings.Lines(text.String()) {
		var row []int64
		for cell := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), "\t") {
			n, err := strconv.ParseInt(cell, 10, 64)
			if err != nil || !strings.HasSuffix(line, "\n") {
				return nil, fmt.Errorf("%w: %q is no line of numbers", errBroken, line)
			}
			row = append(row, n)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// away tells a failure of the connection. The URL in it holds values of the
// query: it is not told.
func away(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%w: %w", errAway, err)
}

// maxException is how much of an exception is read. ClickHouse sends 16 KiB of
// one in the middle of an answer.
const maxException = 20 << 10

// tail keeps the end of an answer, which may be an exception instead of data:
// then the tag of the answer's head, which no data knows, is in it.
type tail struct {
	tag, last []byte
}

func (t *tail) add(b []byte) {
	if len(t.tag) == 0 {
		return
	}
	if len(b) >= maxException {
		t.last = append(t.last[:0], b[len(b)-maxException:]...)
		return
	}
	if over := len(t.last) + len(b) - maxException; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	t.last = append(t.last, b...)
}

// exception returns the exception's text; nil when there is none.
func (t *tail) exception() []byte {
	if len(t.tag) == 0 {
		return nil
	}
	// A mark and the tag, the text, its length and the tag, and the mark again.
	end := bytes.LastIndex(t.last, t.tag)
	if end < 0 || !bytes.Contains(t.last[end:], []byte("__exception__")) {
		return nil
	}
	text := t.last[:end]
	if begin := bytes.LastIndex(text, t.tag); begin >= 0 {
		text = text[begin+len(t.tag):]
	}
	return bytes.TrimRight(bytes.TrimSpace(text), " 0123456789\r\n")
}

// ClickHouse's error codes that we tell apart.
const (
	codeTimeout        = 159
	codeTooSlow        = 160
	codeUser           = 192 // unknown; then 193, 194: its password
	codePassword       = 194
	codeTooManyQueries = 202
	codeSocketTimeout  = 209
	codeNetwork        = 210
	codeAborted        = 236
	codeMemory         = 241
	codeReadOnlyTable  = 242
	codeNotEnoughSpace = 243
	codeCancelled      = 394
	codeThread         = 439
	codeLogin          = 516
	codeCancelledByUs  = 735
	codeOverloaded     = 745
)

// exception makes an error of ClickHouse's words.
func exception(res *http.Response, text []byte) error {
	words := strings.TrimSpace(string(text))
	code, err := strconv.Atoi(res.Header.Get("X-ClickHouse-Exception-Code"))
	if err != nil {
		if _, rest, ok := strings.Cut(words, "Code: "); ok {
			digits, _, _ := strings.Cut(rest, ".")
			code, _ = strconv.Atoi(digits) // 0: none that we know
		}
	}
	kind := errRefused
	switch {
	case code == codeMemory && !strings.Contains(words, "Query memory limit exceeded") && !strings.Contains(words, "(for query)"):
		kind = errBusy // the memory of the server, or the user's
	case code == codeTooManyQueries, code == codeTimeout, code == codeTooSlow, code == codeCancelled, code == codeCancelledByUs,
		code == codeThread, code == codeOverloaded, code == codeNotEnoughSpace, code == codeReadOnlyTable, code == codeAborted:
		kind = errBusy
	case code == codeSocketTimeout, code == codeNetwork, code >= codeUser && code <= codePassword, code == codeLogin:
		kind = errAway
	case code == 0 && res.StatusCode >= 500: // of whoever is in between
		kind = errAway
	}
	if code == 0 && res.StatusCode != http.StatusOK {
		words = res.Status + " " + words
	}
	return fmt.Errorf("%w: %s", kind, shortened(words))
}

// shortened is the beginning of a long text: ClickHouse repeats the statement.
func shortened(s string) string {
	const most = 500
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
