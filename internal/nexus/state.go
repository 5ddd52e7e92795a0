package nexus

// State is where a job is in its life; the text is stored and shown.
type State string

// The states of a job. Failed and canceled promise that nothing was left
// behind; rollback_failed is parked until an operator resumes it.
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

// States lists all states in the order a legend shows them.
func States() []State {
	return []State{Queued, Running, Waiting, Succeeded, RollingBack, Failed, Canceled, RollbackFailed}
}

// Next is the one transition table: the states a job may go to from here.
// Nil means terminal. A parked teardown is resumed forward (running), a parked
// provision backward (rolling_back).
func (s State) Next() []State {
	switch s {
	case Queued:
		return []State{Running, Waiting, RollingBack, Canceled} // waiting: no room on its bench
	case Running:
		return []State{Waiting, Succeeded, RollingBack}
	case Waiting:
		return []State{Running, RollingBack, Canceled} // canceled: superseded while it rests
	case RollingBack:
		return []State{Failed, Canceled, RollbackFailed}
	case RollbackFailed:
		return []State{RollingBack, Running, Canceled} // canceled: superseded, or given up
	default:
		return nil
	}
}

// Terminal tells whether the job is over for good.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Canceled }

// Wait is what a waiting job waits for; the text is stored and shown.
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
