package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// graceful is how long a process may take to end before it is killed.
const graceful = 10 * time.Second

// Process is a running program. It ends at Stop, and with the process that
// started it.
type Process struct {
	// Log holds what the program wrote to its standard output and error.
	Log *Log

	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Start runs a program in dir. Its name is for errors.
func Start(name, dir, program string, args ...string) (*Process, error) {
	p := &Process{Log: &Log{}, name: name, done: make(chan struct{})}
	// Stop ends the program, not a context: it gives it time to end by itself.
	p.cmd = exec.CommandContext(context.Background(), program, args...)
	p.cmd.Dir = dir
	p.cmd.Stdout = p.Log
	p.cmd.Stderr = p.Log
	p.cmd.SysProcAttr = ownGroup()

	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// run holds on to its thread, because the kernel ends the program when the
// thread that started it ends, and Go ends threads as it likes.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the program, by force if it takes too long, and returns when it is
// gone. Stopping twice does nothing.
func (p *Process) Stop() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(graceful):
	}
	err := p.Signal(syscall.SIGKILL)
	<-p.done
	return errors.Join(err, fmt.Errorf("%s did not end within %s and was killed", p.name, graceful))
}

// Kill ends the program at once, as a crash does, and returns when it is gone.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.done
	return err
}

// Pause stops the program where it is: its connections stay, and nothing comes
// over them.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume makes a paused program go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Signal sends the program a signal. That it has ended is no error.
func (p *Process) Signal(s syscall.Signal) error {
	err := p.cmd.Process.Signal(s)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s: %w", s, p.name, err)
	}
	return nil
}

// ended returns an error with the end of the log when the program has ended.
func (p *Process) ended() error {
	select {
	case <-p.done:
		//nolint:errorlint // There is no error when it ended well.
		return fmt.Errorf("%s ended (%v); its last lines:\n%s", p.name, p.err, p.Log.Tail(20))
	default:
		return nil
	}
}

// whileAlive returns a context that ends with ctx and with the program.
func (p *Process) whileAlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-p.done:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// awaitLine waits for a line of the log that holds all the words, and fails at
// once when the program ends first.
func (p *Process) awaitLine(ctx context.Context, atMost time.Duration, words ...string) (string, error) {
	ctx, cancel := p.whileAlive(ctx)
	defer cancel()
	line, err := p.Log.Await(ctx, 0, atMost, words...)
	if err == nil {
		return line, nil
	}
	if ended := p.ended(); ended != nil {
		return "", ended
	}
	return "", fmt.Errorf("%s: %w; its last lines:\n%s", p.name, err, p.Log.Tail(20))
}
