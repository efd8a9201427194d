// Command buildkit tells how BuildKit reads a Dockerfile. Its own frontend parses, lints and converts
// every stage for each platform into what a builder would run. Nothing runs: a stage whose base is in
// a registry starts from an empty configuration, and no registry is asked.
//
//	buildkit <Dockerfile> <platform …>
//
// It prints JSON. The exit code is 1 when a stage does not convert or the linter has a complaint.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Stage is a stage as it would be built for a platform.
type Stage struct {
	Name         string            `json:"name"`
	Platform     string            `json:"platform"`
	Architecture string            `json:"architecture"`
	User         string            `json:"user"`
	Entrypoint   []string          `json:"entrypoint"`
	Command      []string          `json:"command"`
	Environment  []string          `json:"environment"`
	Folder       string            `json:"folder"`
	Labels       map[string]string `json:"labels"`
	Bases        []string          `json:"bases"`
	Runs         []string          `json:"runs"`
}

// Warning is a complaint of the linter.
type Warning struct {
	Rule   string `json:"rule"`
	Line   int32  `json:"line"`
	Detail string `json:"detail"`
}

// Told is what is printed.
type Told struct {
	Stages   []Stage   `json:"stages"`
	Warnings []Warning `json:"warnings"`
	Error    string    `json:"error,omitempty"`
}

// bases answers for a registry: whatever is asked for is there, for the platform asked for. One
// layer is named, since to BuildKit an image without any is `scratch`.
type bases struct{}

func (bases) ResolveImageConfig(
	_ context.Context, ref string, opt sourceresolver.Opt,
) (string, digest.Digest, []byte, error) {
	image := ocispecs.Image{
		Platform: *opt.ImageOpt.Platform,
		RootFS:   ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}},
	}
	written, err := json.Marshal(image)
	return ref, "", written, err
}

func options(file string, text []byte, platform ocispecs.Platform) dockerfile2llb.ConvertOpt {
	caps := pb.Caps.CapSet(pb.Caps.All())
	source := llb.NewSourceMap(nil, file, "Dockerfile", text)
	source.Definition = &llb.Definition{} // where a builder would fetch it from
	return dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildPlatforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}},
		},
		LLBCaps:        &caps,
		MetaResolver:   bases{},
		SourceMap:      source,
		TargetPlatform: &platform,
	}
}

func convert(text []byte, name string, opt dockerfile2llb.ConvertOpt) (Stage, error) {
	ctx := context.Background()
	opt.Target = name
	found, err := dockerfile2llb.Dockerfile2LLB(ctx, text, opt)
	if err != nil {
		return Stage{}, err
	}
	definition, err := found.State.Marshal(ctx, llb.Platform(*opt.TargetPlatform))
	if err != nil {
		return Stage{}, err
	}
	config := found.Image.Config
	stage := Stage{
		Name:         name,
		Platform:     platforms.Format(*opt.TargetPlatform),
		Architecture: found.Image.Architecture,
		User:         config.User,
		Entrypoint:   config.Entrypoint,
		Command:      config.Cmd,
		Environment:  config.Env,
		Folder:       config.WorkingDir,
		Labels:       config.Labels,
	}
	return stage, stage.read(definition)
}

// read notes which images a definition starts from and what it runs, for which platform.
func (stage *Stage) read(definition *llb.Definition) error {
	for _, written := range definition.Def {
		var op pb.Op
		if err := op.UnmarshalVT(written); err != nil {
			return err
		}
		if from := op.GetSource().GetIdentifier(); strings.HasPrefix(from, "docker-image://") {
			base := strings.TrimPrefix(from, "docker-image://")
			stage.Bases = append(stage.Bases, base+" "+op.GetPlatform().GetArchitecture())
		}
		if words := op.GetExec().GetMeta().GetArgs(); len(words) > 0 {
			stage.Runs = append(stage.Runs, op.GetPlatform().GetArchitecture()+" "+words[len(words)-1])
		}
	}
	slices.Sort(stage.Bases)
	slices.Sort(stage.Runs)
	return nil
}

func (told *Told) complain(found []lint.Warning) {
	for _, one := range found {
		warning := Warning{Rule: one.RuleName, Detail: one.Detail}
		if ranges := one.Location.GetRanges(); len(ranges) > 0 {
			warning.Line = ranges[0].GetStart().GetLine()
		}
		if !slices.Contains(told.Warnings, warning) {
			told.Warnings = append(told.Warnings, warning)
		}
	}
}

func (told *Told) take(file string, text []byte, platform ocispecs.Platform) error {
	opt := options(file, text, platform)
	checked, err := dockerfile2llb.DockerfileLint(context.Background(), text, opt)
	if err != nil {
		return err
	}
	told.complain(checked.Warnings)
	if checked.Error != nil {
		return errors.New(checked.Error.Message)
	}
	listed, err := dockerfile2llb.ListTargets(context.Background(), text)
	if err != nil {
		return err
	}
	for _, target := range listed.Targets {
		stage, err := convert(text, target.Name, opt)
		if err != nil {
			return fmt.Errorf("%s for %s: %w", target.Name, platforms.Format(platform), err)
		}
		told.Stages = append(told.Stages, stage)
	}
	return nil
}

func tell(file string, wanted []string) (told Told, err error) {
	told.Warnings = []Warning{}
	text, err := os.ReadFile(file)
	if err != nil {
		return told, err
	}
	for _, name := range wanted {
		platform, err := platforms.Parse(name)
		if err != nil {
			return told, err
		}
		if err := told.take(file, text, platform); err != nil {
			return told, err
		}
	}
	return told, nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: buildkit <Dockerfile> <platform …>")
		os.Exit(2)
	}
	told, err := tell(os.Args[1], os.Args[2:])
	if err != nil {
		told.Error = err.Error()
	}
	written, _ := json.MarshalIndent(told, "", " ")
	fmt.Println(string(written))
	if told.Error != "" || len(told.Warnings) > 0 {
		os.Exit(1)
	}
}
