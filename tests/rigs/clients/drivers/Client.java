// java.net.http.HttpClient: one request a line of standard input, one outcome a line. A line is
// METHOD, URL, FILE, FRAMING and SAVE, and any number of headers, between tabs.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().sslContext(trusting(System.getenv("CA"))).build();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            try {
                System.out.println("status " + ask(client, line.split("\t")));
            } catch (IOException error) {
                System.out.println("error " + error.toString().replace('\n', ' '));
            }
        }
        System.exit(0);
    }

    static int ask(HttpClient client, String[] fields) throws IOException, InterruptedException {
        HttpRequest.Builder request =
                HttpRequest.newBuilder(URI.create(fields[1])).method(fields[0], body(fields));
        for (int i = 5; i < fields.length; i++) {
            String[] header = fields[i].split(": ", 2);
            request.header(header[0], header[1]);
        }
        var answer = client.send(request.build(), BodyHandlers.ofByteArray());
        Files.write(Path.of(fields[4]), answer.body());
        return answer.statusCode();
    }

    static BodyPublisher body(String[] fields) throws IOException {
        if (fields[0].equals("GET")) {
            return BodyPublishers.noBody();
        }
        Path file = Path.of(fields[2]);
        return fields[3].equals("length")
                ? BodyPublishers.ofFile(file)
                : BodyPublishers.ofInputStream(() -> open(file));
    }

    static InputStream open(Path file) {
        try {
            return Files.newInputStream(file);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static SSLContext trusting(String ca) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = Files.newInputStream(Path.of(ca))) {
            var certificate = CertificateFactory.getInstance("X.509").generateCertificate(pem);
            trusted.setCertificateEntry("ca", certificate);
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }
}
