import java.io.File;
import java.nio.file.Files;
import org.apache.catalina.Context;
import org.apache.catalina.Wrapper;
import org.apache.catalina.startup.Tomcat;
import org.springframework.stereotype.Controller;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.ResponseBody;
import org.springframework.web.context.support.AnnotationConfigWebApplicationContext;
import org.springframework.web.servlet.DispatcherServlet;

/** A small web application: Spring's dispatcher with one controller, in Tomcat, which listens on the loopback network. */
public final class Web {
    private Web() {}

    /** The one page there is. */
    @Controller
    public static class Greeting {
        @RequestMapping("/")
        @ResponseBody
        public String greet() {
            return "hello";
        }
    }

    /** Starts everything, says so, and leaves. */
    public static void main(String[] arguments) throws Exception {
        File base = Files.createTempDirectory(new File("/tmp").toPath(), "web").toFile();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(base.getPath());
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", base.getPath());
        AnnotationConfigWebApplicationContext spring = new AnnotationConfigWebApplicationContext();
        spring.register(Greeting.class);
        Wrapper dispatcher = Tomcat.addServlet(context, "dispatcher", new DispatcherServlet(spring));
        dispatcher.setLoadOnStartup(1);
        context.addServletMappingDecoded("/", "dispatcher");
        tomcat.start();
        // The servlet's own failure does not fail the server.
        boolean up = context.getState().isAvailable() && spring.isActive() && tomcat.getConnector().getLocalPort() > 0;
        System.out.println(up ? "started" : "not started");
        System.out.flush();
        Runtime.getRuntime().halt(up ? 0 : 1);
    }
}
