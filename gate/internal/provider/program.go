package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"countersign/gate/internal/bounded"
)

const (
	maxAnswer = 128 << 10 // bytes
	maxLogins = 1024
	maxKept   = 24 * time.Hour // however long a provider says

	// killed is how long a program's pipes are waited for after it was killed.
	killed = 100 * time.Millisecond
	// oomScore has the kernel end a greedy program rather than the gate, whose memory
	// bound it shares.
	oomScore = "1000"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// passedOn are the only variables of the gate's own that a program gets: how the
// network is reached.
var passedOn = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// program is an executable file that may be run.
type program struct {
	called string // its name below the folder
	path   string // without symbolic links
}

// findProgram gives the program of that name in the folder. It refuses what lies
// outside of it, and what others than root could have put there.
func findProgram(binDir, name string) (program, error) {
	folder, err := filepath.EvalSymlinks(binDir)
	if err != nil {
		return program{}, fmt.Errorf("cannot be run: %w", err)
	}
	called := filepath.Join(binDir, name)
	path, err := filepath.EvalSymlinks(called)
	if err != nil {
		return program{}, fmt.Errorf("cannot be run: %w", err)
	}
	if !strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/") {
		return program{}, fmt.Errorf("is not run: %s leads out of %s", called, binDir)
	}
	if err := checkOwned(path); err != nil {
		return program{}, fmt.Errorf("is not run: %w", err)
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return program{}, fmt.Errorf("is not run: %s is not an executable file", path)
	}
	return program{called, path}, nil
}

// checkOwned refuses a file that others than root, or the gate's own user, can write
// or replace: it and all folders above it. path has no symbolic link.
func checkOwned(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, expected root", at, owner.Uid)
		}
		// Who may write a sticky folder cannot replace what is root's in it.
		sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0 && at != path
		if info.Mode().Perm()&0o022 != 0 && !sticky {
			return fmt.Errorf("%s has mode %#o: others than root can write it", at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// run asks the program for logins for an image (CredentialProviderRequest on its
// stdin, CredentialProviderResponse on its stdout), until ctx ends. What it writes to
// stderr is not read, and no error quotes what it says: either may have secrets.
func (p program) run(ctx context.Context, s settings, image string) (answer, error) {
	request, err := json.Marshal(map[string]string{"apiVersion": apiVersion, "kind": "CredentialProviderRequest", "image": image})
	if err != nil {
		return answer{}, err
	}
	cmd := exec.CommandContext(ctx, p.path, s.Args...)
	cmd.Args[0] = p.called
	cmd.Dir, cmd.Env, cmd.Stdin = "/", environment(s.Env, os.LookupEnv), bytes.NewReader(request)
	output := &bounded.Buffer{Left: maxAnswer}
	cmd.Stdout = output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // and what it started
	cmd.WaitDelay = killed
	if err := cmd.Start(); err != nil {
		return answer{}, fmt.Errorf("cannot be run: %w", err)
	}
	// A kernel that does not let it leaves the program as it is, within the deadline.
	_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "oom_score_adj"), []byte(oomScore), 0)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return answer{}, errLate
	case output.Over:
		return answer{}, fmt.Errorf("answered over %d bytes", maxAnswer)
	case errors.As(err, &exit):
		return answer{}, fmt.Errorf("failed (%v)", exit.ProcessState)
	case err != nil:
		return answer{}, fmt.Errorf("failed (%v)", err)
	}
	return parseAnswer(output.Kept.Bytes(), s.lifetime(), time.Now())
}

// environment is a small one of our own, with what the settings add.
func environment(configured []variable, lookup func(string) (string, bool)) []string {
	env := []string{searchPath}
	for _, name := range passedOn {
		if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, v := range configured {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

// parseAnswer reads a CredentialProviderResponse that came at now.
func parseAnswer(content []byte, lifetime time.Duration, now time.Time) (answer, error) {
	var response struct {
		APIVersion    string  `json:"apiVersion"`
		Kind          string  `json:"kind"`
		CacheKeyType  string  `json:"cacheKeyType"`
		CacheDuration *string `json:"cacheDuration"`
		Auth          map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"auth"`
	}
	if json.Unmarshal(content, &response) != nil { // whose error could quote a password
		return answer{}, errors.New("did not answer with a CredentialProviderResponse")
	}
	if response.APIVersion != apiVersion || response.Kind != "CredentialProviderResponse" {
		return answer{}, fmt.Errorf("did not answer with a CredentialProviderResponse of %s", apiVersion)
	}
	a := answer{auth: map[string]Login{}, kind: response.CacheKeyType}
	if a.kind != kindImage && a.kind != kindRegistry && a.kind != kindGlobal {
		return answer{}, fmt.Errorf("answered without a cacheKeyType of %s, %s or %s", kindImage, kindRegistry, kindGlobal)
	}
	if response.CacheDuration != nil {
		var err error
		if lifetime, err = time.ParseDuration(*response.CacheDuration); err != nil {
			return answer{}, errors.New("answered with a cacheDuration that is not one")
		}
	}
	a.ends = now.Add(min(lifetime, maxKept))
	if len(response.Auth) > maxLogins {
		return answer{}, fmt.Errorf("answered with over %d logins", maxLogins)
	}
	for _, key := range slices.Sorted(maps.Keys(response.Auth)) { // so that of two that mean the same it is always the same one
		login := response.Auth[key]
		if login.Username != "" && login.Password != "" { // without both, a runtime has nothing to send either
			a.auth[plainKey(key)] = Login{User: login.Username, Password: login.Password}
		}
	}
	return a, nil
}
