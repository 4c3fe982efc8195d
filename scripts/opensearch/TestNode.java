import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** A single node that serves HTTP: java TestNode NAME=VALUE... with the node's settings, path.home among them. */
public final class TestNode extends Node {
  private TestNode(Environment env) {
    super(env, List.of(Netty4Plugin.class), true);
  }

  public static void main(String[] args) {
    Settings.Builder settings = Settings.builder();
    String name = "";
    for (String arg : args) {
      int at = arg.indexOf('=');
      settings.put(arg.substring(0, at), arg.substring(at + 1));
      if (arg.startsWith("node.name=")) {
        name = arg.substring(at + 1);
      }
    }
    String node = name;
    try {
      TestNode n = new TestNode(InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), null, () -> node));
      Runtime.getRuntime().addShutdownHook(new Thread(() -> {
        try {
          n.close();
        } catch (Exception e) {
          e.printStackTrace();
        }
      }));
      n.start();
      Thread.currentThread().join();
    } catch (Throwable e) { // its pools' threads would keep the process alive
      e.printStackTrace();
      Runtime.getRuntime().halt(1);
    }
  }
}
