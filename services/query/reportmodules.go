package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// checkModules adds a violation when modules were named that there are not:
// neither have they a topic, nor the subscription events of them. The error is
// that of the store.
func (s *Service) checkModules(ctx context.Context, id identity.Identity, req reportRequest, f *form, pin sqlgen.Pin) error {
	var known []string
	for _, p := range pin.Partitions {
		if code, ok := audit.ModuleOf(p.Topic); ok && !slices.Contains(known, code) {
			known = append(known, code)
		}
	}
	unknown := slices.DeleteFunc(slices.Clone(req.modules), func(m string) bool {
		return slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, m) })
	})
	if len(unknown) == 0 {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, modulesTimeout)
	defer cancel()
	stored, err := s.storedModules(short, id)
	switch {
	case err == nil:
	case len(f.violations) > 0:
		return nil // those are told
	case ctx.Err() == nil && (short.Err() != nil || errors.Is(err, errClientGone)): // the client is there
		slices.Sort(known)
		return &problem.Error{
			// Not err itself: that may say that the client is gone.
			Kind: problem.KindUnavailable, RetryAfter: retryAfter, Cause: errors.New("modules: " + err.Error()),
			Detail: fmt.Sprintf("Whether there is a module %s cannot be told at the moment: ClickHouse did not answer in %s. Nothing was done; try again shortly, or name modules out of %s.",
				problem.Shorten(unknown[0]), modulesTimeout, strings.Join(known, ", ")),
		}
	default:
		return err
	}
	for _, m := range unknown {
		if slices.ContainsFunc(stored, func(k string) bool { return strings.EqualFold(k, m) }) {
			continue
		}
		for _, k := range stored {
			if !slices.Contains(known, k) {
				known = append(known, k)
			}
		}
		slices.Sort(known)
		all := strings.Join(known, ", ")
		f.violate(problem.Violation{Field: req.modulesAt, Value: problem.Shorten(m), Limit: all, Message: "is no module; there are " + all + ", and All"})
	}
	return nil
}

const (
	// modulesTimeout bounds the look for modules that have no topic.
	modulesTimeout = 5 * time.Second
	// mostModules is how many of them are looked at.
	mostModules = 1000
)

var moduleField = field.Find(field.Events.Fields, moduleKey)

// storedModules are those that the caller sees events of.
func (s *Service) storedModules(ctx context.Context, id identity.Identity) (modules []string, err error) {
	leave, err := s.engine.enter(ctx, id.CustomerUUID)
	if err != nil {
		return nil, err
	}
	defer leave()
	facets, err := s.count(ctx, visibility.For(id), sqlgen.Filter{}, []*field.Field{moduleField}, mostModules)
	if err != nil {
		return nil, err
	}
	for _, v := range facets[0].values {
		if v.value != "" {
			modules = append(modules, v.value)
		}
	}
	return modules, nil
}
