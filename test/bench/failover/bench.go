package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// bench runs sections. It implements bed.T: what fails ends the section and not the others.
type bench struct {
	c        config
	out      *results
	cleanups []func()
	errs     []error
}

// failure is what Fatalf panics with.
type failure struct{ error }

// section runs s and whatever it left to be cleaned up.
func (b *bench) section(s section) error {
	start := time.Now()
	b.errs = nil
	b.guard(func() { s.run(b) })
	b.cleanUp()
	b.logf("%s: took %s", s.name, time.Since(start).Round(time.Second))
	return errors.Join(b.errs...)
}

// cleanUp does what was put off with Cleanup, the last first.
func (b *bench) cleanUp() {
	for _, f := range slices.Backward(b.cleanups) {
		b.guard(f)
	}
	b.cleanups = nil
}

func (b *bench) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			fatal, ok := r.(failure)
			if !ok {
				panic(r)
			}
			b.errs = append(b.errs, fatal.error)
		}
	}()
	f()
}

// Helper implements bed.T.
func (b *bench) Helper() {}

// Errorf implements bed.T.
func (b *bench) Errorf(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
}

// Fatalf implements bed.T.
func (b *bench) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Cleanup implements bed.T.
func (b *bench) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }

func (b *bench) check(err error) {
	if err != nil {
		b.Fatalf("%w", err)
	}
}

// logf tells people how far it is.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
