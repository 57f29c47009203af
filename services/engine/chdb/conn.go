//go:build !noengine && (linux || darwin)

// Package chdb binds libchdb.so, the ClickHouse engine as a shared library,
// without cgo. Load comes first.
package chdb

import (
	"errors"
	"runtime"
	"strings"
	"unsafe"
)

// Conn is one session of the engine: a current database and settings. A
// session runs one statement at a time: the caller serializes its use.
type Conn struct {
	box unsafe.Pointer // chdb_connection *, owned by the library
}

// Connect opens a session on the data directory. The first session of the
// process boots the engine, closing the last one stops it; all sessions use the
// same directory. Arguments are command-line options of clickhouse-local, such
// as --max_threads=2; server options count for the first session alone.
func Connect(dir string, args ...string) (*Conn, error) {
	argv := append([]string{"clickhouse", "--path=" + dir}, args...)
	var pin runtime.Pinner
	defer pin.Unpin()
	ptrs := make([]unsafe.Pointer, len(argv)+1)
	for i, a := range argv {
		b := append([]byte(a), 0)
		pin.Pin(&b[0])
		ptrs[i] = unsafe.Pointer(&b[0])
	}
	pin.Pin(&ptrs[0])
	box := cConnect(int32(len(argv)), unsafe.Pointer(&ptrs[0]))
	if box == nil {
		return nil, errors.New("the engine did not open " + dir)
	}
	return &Conn{box: box}, nil
}

// Close ends the session. The Conn cannot be used after.
func (c *Conn) Close() { cCloseConn(c.box) }

func (c *Conn) handle() unsafe.Pointer { return *(*unsafe.Pointer)(c.box) }

// Param is a value for a {name:Type} placeholder, as text in ClickHouse's
// escaped (TSV) form.
type Param struct{ Name, Value string }

// Query runs a statement and returns all of its output in the given format.
// The caller frees the result. An engine exception is an *Error.
func (c *Conn) Query(query, format string, params ...Param) (*Result, error) {
	a := newArgs(query, format, params)
	defer a.free()
	r := &Result{p: cQuery(c.handle(), a.query, a.queryLen, a.format, a.formatLen,
		a.names, a.nameLens, a.values, a.valueLens, a.count)}
	if err := r.err(); err != nil {
		r.Free()
		return nil, err
	}
	return r, nil
}

// Exec runs a statement and drops its output.
func (c *Conn) Exec(query string) error {
	r, err := c.Query(query, "Null")
	if err != nil {
		return err
	}
	r.Free()
	return nil
}

// Row runs a query and returns the fields of its only row, as raw TSV text.
func (c *Conn) Row(query string) ([]string, error) {
	r, err := c.Query(query, "TSVRaw")
	if err != nil {
		return nil, err
	}
	defer r.Free()
	return strings.Split(strings.TrimSuffix(string(r.Bytes()), "\n"), "\t"), nil
}

// args holds the memory of one call in place until free.
type args struct {
	pin                        runtime.Pinner
	query, format              unsafe.Pointer
	queryLen, formatLen, count uintptr
	names, values              unsafe.Pointer // arrays of pointers
	nameLens, valueLens        unsafe.Pointer // arrays of lengths
}

func newArgs(query, format string, params []Param) *args {
	a := &args{count: uintptr(len(params))}
	a.query, a.queryLen = a.text(query)
	a.format, a.formatLen = a.text(format)
	if len(params) == 0 {
		return a
	}
	n := len(params)
	ptrs := make([]unsafe.Pointer, 2*n)
	lens := make([]uintptr, 2*n)
	for i, p := range params {
		ptrs[i], lens[i] = a.text(p.Name)
		ptrs[n+i], lens[n+i] = a.text(p.Value)
	}
	a.pin.Pin(&ptrs[0])
	a.pin.Pin(&lens[0])
	a.names, a.values = unsafe.Pointer(&ptrs[0]), unsafe.Pointer(&ptrs[n])
	a.nameLens, a.valueLens = unsafe.Pointer(&lens[0]), unsafe.Pointer(&lens[n])
	return a
}

// text pins s and adds a NUL, for the few places of the library that look for one.
func (a *args) text(s string) (unsafe.Pointer, uintptr) {
	b := make([]byte, len(s)+1)
	copy(b, s)
	a.pin.Pin(&b[0])
	return unsafe.Pointer(&b[0]), uintptr(len(s))
}

func (a *args) free() { a.pin.Unpin() }

// goString copies a NUL-terminated string of the library.
func goString(p unsafe.Pointer) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}
