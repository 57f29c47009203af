package query

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// reportPath is of the reports of a subscription (seed 002).
const reportPath = "/audit-log/admin/report"

// reports knows the jobs and where their files are. It is opened in the
// background; once it was, jobs are in memory and stay there. Safe for
// concurrent use.
type reports struct {
	*opening
	table *report.Table // set before read is closed
	files *report.Files // set before read is closed

	alive time.Duration // between two signs of life of a stream

	mu      sync.Mutex
	streams map[string]int // of progress, by customerUuid; guarded by mu
}

func openReports(cfg kafka.Config, store report.FilesConfig, log *zap.Logger) *reports {
	p := &reports{alive: streamAlive, streams: map[string]int{}}
	p.opening = startOpening("reports", func(ctx context.Context) error {
		files, err := report.OpenFiles(ctx, store)
		if err != nil {
			return err
		}
		table, err := report.Open(ctx, cfg, log)
		if err != nil {
			_ = files.Close() // nothing was read or written
			return err
		}
		p.table, p.files = table, files
		return nil
	}, log)
	return p
}

func (p *reports) close() error {
	if !p.end() {
		return nil
	}
	p.table.Close()
	return p.files.Close()
}

// opened returns nil once jobs are known; until then a problem 503.
func (p *reports) opened(ctx context.Context) error {
	if err := p.ready(ctx); err != nil {
		return &problem.Error{
			Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: fmt.Errorf("reports: %w", err),
			Detail: "Reports cannot be read yet. Try again shortly.",
		}
	}
	return nil
}

// errNoReport is the same whether a report is not there or not for this caller to
// see.
var errNoReport = problem.New(problem.KindNotFound, "There is no such report, or you may not see it.")

// job returns the report that the path names, when the caller may see it, and
// what the caller sees of others. The errors are problems.
func (s *Service) job(r *http.Request, id identity.Identity) (*report.Job, visibility.Reports, error) {
	see := visibility.ForReports(id)
	if err := s.reports.opened(r.Context()); err != nil {
		return nil, see, err
	}
	text := r.PathValue("id")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != text {
		return nil, see, problem.Invalid(problem.Violation{
			Field: "id", Value: problem.Shorten(text), Limit: "a whole number, 1 or more", Message: "must be the reportId of a report, such as 17",
		})
	}
	j, err := s.reports.table.Get(r.Context(), n)
	if err != nil {
		return nil, see, &problem.Error{
			Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: err,
			Detail: "Whether there is such a report cannot be told at the moment. Try again shortly.",
		}
	}
	if j == nil || !see.Sees(j.Spec.Requester.CustomerUUID, j.Spec.Requester.UserUUID) {
		return nil, see, errNoReport
	}
	return j, see, nil
}

// jobToChange is job, for whoever may do something about it.
func (s *Service) jobToChange(r *http.Request, id identity.Identity, what string) (*report.Job, error) {
	j, see, err := s.job(r, id)
	if err != nil {
		return nil, err
	}
	if of := j.Spec.Requester; !see.Changes(of.CustomerUUID, of.UserUUID) {
		return nil, problem.Newf(problem.KindForbidden, "Only who asked for a report and Managers %s it; you may look at it and download it.", what)
	}
	return j, nil
}
