// net/http: one request a line of standard input, one outcome a line. A line is METHOD, URL, FILE,
// FRAMING and SAVE, and any number of headers, between tabs.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func ask(client *http.Client, fields []string) (int, error) {
	method, url, file, framing, save := fields[0], fields[1], fields[2], fields[3], fields[4]
	var body io.Reader
	var size int64
	if method != http.MethodGet {
		opened, err := os.Open(file)
		if err != nil {
			return 0, err
		}
		info, err := opened.Stat()
		if err != nil {
			return 0, err
		}
		body, size = opened, info.Size()
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return 0, err
	}
	// Without it a file goes out in chunks.
	if framing == "length" {
		request.ContentLength = size
	}
	for _, header := range fields[5:] {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, os.WriteFile(save, content, 0o600)
}

func main() {
	ca, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		panic(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: trusted}
	client := &http.Client{Transport: transport}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		status, err := ask(client, strings.Split(lines.Text(), "\t"))
		if err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("status", status)
		}
	}
}
