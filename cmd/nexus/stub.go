package main

import "github.com/spf13/cobra"

func provisionCommand() *cobra.Command { return &cobra.Command{Use: "provision"} }
