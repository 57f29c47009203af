//go:build !noengine && (linux || darwin)

package chdb

import "unsafe"

// Result is output that the engine owns. The caller frees it once.
type Result struct {
	p unsafe.Pointer
}

// Bytes is the formatted output, in the engine's memory: valid until Free.
func (r *Result) Bytes() []byte {
	n := cResultLength(r.p)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(cResultBuffer(r.p)), n)
}

// Read is how many rows and bytes were read from storage so far.
func (r *Result) Read() (rows, bytes uint64) {
	return cResultStorageRows(r.p), cResultStorageBytes(r.p)
}

// Written is how many rows and bytes an INSERT wrote, those of dependent views
// included.
func (r *Result) Written() (rows, bytes uint64) {
	return cResultRowsWritten(r.p), cResultBytesWritten(r.p)
}

// Free returns the memory to the engine.
func (r *Result) Free() { cResultDestroy(r.p) }

func (r *Result) err() error {
	if text := goString(cResultError(r.p)); text != "" {
		return parseError(text)
	}
	return nil
}
