package bench

// Bootstrap is the program that takes the runner's source in.
const Bootstrap = bootstrap

// RunnerSource is the runner's own.
func RunnerSource() ([]byte, error) { return runnerSource() }
