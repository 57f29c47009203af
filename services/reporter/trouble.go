package reporter

import (
	"errors"
	"net/http"
	"syscall"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"gocloud.dev/gcerrors"

	"github.com/auditrail/auditrail/services/internal/report"
)

var (
	// errSpec marks a specification that this version cannot make a report of.
	errSpec = errors.New("specification")
	// errUnread marks a failure to read an object.
	errUnread = errors.New("read of the object store")
	// errStalled ends an attempt that does not get on.
	errStalled = errors.New("nothing moves")
	// errSlow ends one in which ClickHouse does not answer.
	errSlow = errors.New("ClickHouse does not answer in time")
	// errGone marks an object that is not as it was written.
	errGone = errors.New("object is gone")
	// errKafka marks a write to the table that failed.
	errKafka = errors.New("no writes to Kafka")
	// errFile marks parts that do not make a file: another try finds the same.
	errFile = errors.New("the parts do not make a file")
	// errTooLarge marks a report that its format does not hold.
	errTooLarge = errors.New("too large for the format")
	// errPanic marks a panic.
	errPanic = errors.New("panic")
	// errPoison marks a report that its owners end of.
	errPoison = errors.New("its owners end of it")
	// errOver ends a run whose job has ended.
	errOver = errors.New("the report has ended")
)

// What fails, as metrics have it.
const (
	whatKafka      = "kafka"
	whatClickHouse = "clickhouse"
	whatStore      = "store"
	whatFull       = "store-full"
	whatRefused    = "refused"
	whatInternal   = "internal"
)

var whats = []string{whatKafka, whatClickHouse, whatStore, whatFull, whatRefused, whatInternal}

const troubleKafka = "Kafka does not confirm writes."

// trouble is what keeps a report from going on, for people: fixed sentences,
// without what failed says of itself.
type trouble struct {
	what   string
	text   string
	advice string // what to do once it has Failed
	full   bool   // the store is: it is not tried for long
	fatal  bool   // another try fails the same
}

const (
	adviceResume = "Rerun the report to go on where it stopped."
	adviceAnew   = "Make a new report: a rerun goes on with what is there."
)

// explain says what an error of a turn means.
func explain(err error) trouble {
	switch {
	case errors.Is(err, errStored) && isFull(err):
		return trouble{what: whatFull, text: "The object store is full.", advice: "Once it has room, rerun the report to go on where it stopped.", full: true}
	case errors.Is(err, errStored) && gcerrors.Code(err) == gcerrors.PermissionDenied:
		return trouble{what: whatStore, text: "The object store refuses writes.", advice: "Check its credentials; then rerun the report to go on where it stopped."}
	case errors.Is(err, errGone), errors.Is(err, errUnread) && report.IsMissing(err):
		return trouble{what: whatStore, text: "An object of the report is gone from the object store.", advice: adviceAnew, fatal: true}
	case errors.Is(err, errPanic):
		return trouble{what: whatInternal, text: "The reporter failed while it made the report; its log says where.", advice: adviceResume, fatal: true}
	case errors.Is(err, errPoison):
		return trouble{what: whatInternal, text: "Five workers in turn ended while they made its next chunk.", advice: "Have a smaller --report-chunk-rows or more memory for the reporter; then make a new report.", fatal: true}
	case errors.Is(err, errFile):
		return trouble{what: whatInternal, text: "The parts of the report do not make a file.", advice: adviceAnew, fatal: true}
	case errors.Is(err, errTooLarge):
		return trouble{what: whatRefused, text: "The report has more rows than a Parquet file can hold.", advice: "Narrow the report, or ask for another format.", fatal: true}
	case errors.Is(err, errSlow):
		return trouble{what: whatClickHouse, text: "ClickHouse takes longer than --report-give-up for a chunk.", advice: "Narrow the report, or have that limit raised and rerun the report to go on where it stopped."}
	case errors.Is(err, errUnread):
		return trouble{what: whatStore, text: "The object store cannot be read.", advice: adviceResume}
	case errors.Is(err, errStored):
		return trouble{what: whatStore, text: "The object store does not take writes.", advice: adviceResume}
	case errors.Is(err, errAway):
		return trouble{what: whatClickHouse, text: "ClickHouse cannot be reached.", advice: adviceResume}
	case errors.Is(err, errBusy):
		return trouble{what: whatClickHouse, text: "ClickHouse is busy.", advice: adviceResume}
	case errors.Is(err, errBroken):
		return trouble{what: whatClickHouse, text: "ClickHouse's answers break off.", advice: adviceResume}
	case errors.Is(err, errRefused):
		return trouble{what: whatRefused, text: "ClickHouse refuses the report's statement.", advice: "Narrow the report, or ask the operator: the log says why."}
	case errors.Is(err, errSpec):
		return trouble{what: whatRefused, text: "This version cannot make the report as it was asked for.", advice: "Ask for it again.", fatal: true}
	case errors.Is(err, errKafka):
		return trouble{what: whatKafka, text: "Kafka does not take writes.", advice: adviceResume}
	}
	return trouble{what: whatInternal, text: "The reporter cannot go on with the report; its log says why.", advice: adviceResume}
}

// fullCodes are what S3 stores say when they are.
var fullCodes = map[string]bool{
	"XMinioStorageFull": true, "XMinioAdminBucketQuotaExceeded": true, "QuotaExceeded": true, "InsufficientStorage": true,
	"EntityTooLarge": false, "ServiceQuotaExceededException": true, "QuotaExceededException": true, "InsufficientCapacity": true,
}

func isFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && fullCodes[api.ErrorCode()] {
		return true
	}
	res, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && res.HTTPStatusCode() == http.StatusInsufficientStorage
}
