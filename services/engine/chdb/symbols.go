//go:build !noengine && (linux || darwin)

package chdb

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The C functions of libchdb.so, named as in its header less the chdb_ prefix.
// Strings travel as pointer and length, so that they may hold any byte.
var (
	cVersion           func() string
	cSetSignalHandlers func(enabled int32)

	cConnect   func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	cCloseConn func(conn unsafe.Pointer)

	cQuery func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr,
		names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	cStreamQuery func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr,
		names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	cStreamFetch  func(conn, stream unsafe.Pointer) unsafe.Pointer
	cStreamCancel func(conn, stream unsafe.Pointer)

	cResultDestroy      func(result unsafe.Pointer)
	cResultBuffer       func(result unsafe.Pointer) unsafe.Pointer
	cResultLength       func(result unsafe.Pointer) uintptr
	cResultError        func(result unsafe.Pointer) unsafe.Pointer
	cResultStorageRows  func(result unsafe.Pointer) uint64
	cResultStorageBytes func(result unsafe.Pointer) uint64
	cResultRowsWritten  func(result unsafe.Pointer) uint64
	cResultBytesWritten func(result unsafe.Pointer) uint64

	cInsert func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr,
		names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	cInsertAppend  func(stream, data unsafe.Pointer, n uintptr) int32
	cInsertDone    func(stream unsafe.Pointer) unsafe.Pointer
	cInsertCancel  func(stream unsafe.Pointer)
	cInsertError   func(stream unsafe.Pointer) unsafe.Pointer
	cInsertDestroy func(stream unsafe.Pointer)
)

var symbols = map[string]any{
	"chdb_version":                     &cVersion,
	"chdb_set_signal_handlers_enabled": &cSetSignalHandlers,
	"chdb_connect":                     &cConnect,
	"chdb_close_conn":                  &cCloseConn,
	"chdb_query_with_params_n":         &cQuery,
	"chdb_stream_query_with_params_n":  &cStreamQuery,
	"chdb_stream_fetch_result":         &cStreamFetch,
	"chdb_stream_cancel_query":         &cStreamCancel,
	"chdb_destroy_query_result":        &cResultDestroy,
	"chdb_result_buffer":               &cResultBuffer,
	"chdb_result_length":               &cResultLength,
	"chdb_result_error":                &cResultError,
	"chdb_result_storage_rows_read":    &cResultStorageRows,
	"chdb_result_storage_bytes_read":   &cResultStorageBytes,
	"chdb_result_rows_written":         &cResultRowsWritten,
	"chdb_result_bytes_written":        &cResultBytesWritten,
	"chdb_stream_insert_with_params_n": &cInsert,
	"chdb_stream_append":               &cInsertAppend,
	"chdb_stream_done":                 &cInsertDone,
	"chdb_stream_cancel_insert":        &cInsertCancel,
	"chdb_stream_insert_error":         &cInsertError,
	"chdb_destroy_insert_stream":       &cInsertDestroy,
}

var (
	loadMu sync.Mutex
	loaded string // path of the loaded library; guarded by loadMu
)

// Load opens libchdb.so at path and binds its functions. It must return before
// anything else of this package is used. A process holds one library: loading
// the same path again does nothing, another path is an error.
func Load(path string) error {
	loadMu.Lock()
	defer loadMu.Unlock()
	switch loaded {
	case path:
		return nil
	case "":
	default:
		return fmt.Errorf("load %s: %s is loaded already", path, loaded)
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	for name, fn := range symbols {
		addr, err := purego.Dlsym(lib, name)
		if err != nil {
			return fmt.Errorf("load %s: not the engine library that this program was built for: %w", path, err)
		}
		purego.RegisterFunc(fn, addr)
	}
	// Go owns the signals; the library would install crash handlers of its own.
	cSetSignalHandlers(0)
	loaded = path
	return nil
}

// Version is the version of the loaded library, such as "26.7.3".
func Version() string { return cVersion() }
