package app

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/nexus-erp/provisioner/tasks"
)

// mostStandbys is the largest size of a shelf that may be configured.
const mostStandbys = 1000

// shelfLimits are the limits of the shelves of a bench. In single-tenant mode there is none.
func (c *Config) shelfLimits() (l tasks.ShelfLimits, err error) {
	if c.single() {
		return l, nil
	}
	if l.Least, l.Most, err = sizes(c.Pool); err != nil {
		return l, fmt.Errorf("NEXUS_POOL: %q is no size of a shelf; write 0 for none, a number up to %d such as 4, or a range such as 2-20", c.Pool, mostStandbys)
	}
	if l.Bytes, err = units.RAMInBytes(c.PoolBytes); err != nil || l.Bytes <= 0 {
		return l, fmt.Errorf("NEXUS_POOL_BYTES: %q is no number of bytes; write one such as 10GiB, 500MiB or 10737418240", c.PoolBytes)
	}
	return l, nil
}

// sizes reads the bounds of a size: a number, or two that a - joins.
func sizes(text string) (least, most int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	low, err := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	if err != nil {
		return 0, 0, err
	}
	high, err := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	if err == nil && (low > high || high > mostStandbys) {
		err = strconv.ErrRange
	}
	return int(low), int(high), err
}
