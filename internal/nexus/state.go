package nexus

// State is the state of a job. The text is stored and shown.
type State string

// The states of a job. A job that failed or was canceled has left nothing behind. A job
// whose rollback failed is parked until an operator resumes it.
const (
	Queued         State = "queued"
	Running        State = "running"
	Waiting        State = "waiting"
	RollingBack    State = "rolling_back"
	Succeeded      State = "succeeded"
	Failed         State = "failed"
	Canceled       State = "canceled"
	RollbackFailed State = "rollback_failed"
)

// States lists all states in the order of a legend.
func States() []State {
	return []State{Queued, Running, Waiting, Succeeded, RollingBack, Failed, Canceled, RollbackFailed}
}

// Next is the transition table: the states that may follow this one; nil: it is terminal.
// A parked job is resumed as rolling_back, or as running if its kind is OneWay.
func (s State) Next() []State {
	switch s {
	case Queued:
		return []State{Running, Waiting, RollingBack, Canceled} // waiting: its bench has no free slot
	case Running:
		return []State{Waiting, Succeeded, RollingBack}
	case Waiting:
		return []State{Running, RollingBack, Canceled} // canceled: superseded
	case RollingBack:
		return []State{Failed, Canceled, RollbackFailed}
	case RollbackFailed:
		return []State{RollingBack, Running, Canceled} // canceled: superseded, or a key job that was given up
	default:
		return nil
	}
}

// Terminal reports whether the job is over and can never change again.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Canceled }

// Wait is what a waiting job waits for. The text is stored and shown.
type Wait string

// The reasons to wait.
const (
	WaitRetry        Wait = "retry"
	WaitCapacity     Wait = "capacity"
	WaitBench        Wait = "bench"
	WaitVerification Wait = "verification"
	WaitPayment      Wait = "payment"
	WaitOperator     Wait = "operator"
)
