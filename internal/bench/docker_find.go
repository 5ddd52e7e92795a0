package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// Labels that Docker Compose gives its containers.
const (
	composeService = "com.docker.compose.service"
	composeProject = "com.docker.compose.project"
	composeNumber  = "com.docker.compose.container-number"
	composeOneOff  = "com.docker.compose.oneoff" // "True" for `docker compose run`
)

// find returns the container of a Compose service, else of that name. Of a scaled
// service it is the one with the lowest number. "project/service" names the service of
// one Compose project.
func (d *Docker) find(ctx context.Context) (container.InspectResponse, error) {
	project, service, ok := strings.Cut(d.o.Service, "/")
	if !ok {
		project, service = "", d.o.Service
	}
	labels := filters.NewArgs(filters.Arg("label", composeService+"="+service))
	if project != "" {
		labels.Add("label", composeProject+"="+project)
	}
	list, err := d.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: labels})
	if err != nil {
		return container.InspectResponse{}, gone("Docker cannot be reached; is the daemon running, and may this process use its socket?", err)
	}
	id, err := choose(service, list)
	if err != nil {
		return container.InspectResponse{}, err
	}
	box, err := d.docker.ContainerInspect(ctx, id)
	switch {
	case err != nil:
		return box, gone(fmt.Sprintf("There is no container of the service %s; start the bench, or set DOCKER_SERVICE.", d.o.Service), err)
	case box.State == nil || !box.State.Running:
		return box, gone(fmt.Sprintf("The container %s does not run; start it.", strings.TrimPrefix(box.Name, "/")), nil)
	}
	return box, nil
}

// choose returns the running container of the service with the lowest number, else the
// service's name, to be taken as a container's. If two projects have such a service it
// is an error: one of them is another bench.
func choose(service string, list []container.Summary) (id string, err error) {
	projects, first := map[string]bool{}, -1
	id = service
	for _, each := range list {
		if each.State != "running" || each.Labels[composeOneOff] == "True" {
			continue
		}
		projects[each.Labels[composeProject]] = true
		if n := number(each); first < 0 || n < first {
			id, first = each.ID, n
		}
	}
	if len(projects) > 1 {
		names := slices.Sorted(maps.Keys(projects))
		for i, name := range names {
			names[i] = name + "/" + service
		}
		return "", gone(fmt.Sprintf("The service %s runs in more than one Compose project; set DOCKER_SERVICE to the one that is meant: %s.",
			service, strings.Join(names, " or ")), nil)
	}
	return id, nil
}

func number(c container.Summary) int {
	n, _ := strconv.Atoi(c.Labels[composeNumber]) // absent: 0
	return n
}
